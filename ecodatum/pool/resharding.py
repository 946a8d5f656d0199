"""Reshards: copies a subset's samples from a part's shards to new ones, bytes untouched."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.json

from ecodatum.errors import PoolError
from ecodatum.files import write_json
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.faces import Boxes, FaceBoxes, FaceTreatment, treat
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.shard_copy import copy_samples
from ecodatum.pool.shards import Sample, ShardWriter
from ecodatum.pool.tar_index import BLOCK, Ints, ShardIndex, index_shard
from ecodatum.pool.uids import UidArray

#: Names in a resharded folder, as DataComp's resharder gives them by default.
SHARD_FORMAT: Final = "{:08d}.tar"
STATS_FORMAT: Final = "{:08d}_stats.json"
META: Final = "meta.json"


@dataclass(frozen=True)
class Resharded:
    """What a reshard did: samples read, samples written (copies counted), shards written.

    blurred: samples whose faces were blurred; dropped: those with faces that could not be decoded, and so
    not be blurred. Of those two no copies are counted.
    """

    processed: int
    written: int
    shards: int
    blurred: int = 0
    dropped: int = 0


def reshard(
    part: Part,
    subset: UidArray,
    out: Path,
    *,
    shard_size: int = 10_000,
    faces: FaceTreatment | None = None,
    deliver: Callable[[Path], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Resharded:
    """Write the samples of `part` whose uid is in `subset` to `out` as webdataset shards.

    A uid that is k times in the subset is written k times, keyed `<uid>-<j>`; the members' bytes are
    copied, but for samples that `faces` changes. Beside each `{:08d}.tar` of at most `shard_size` samples
    lies its `_stats.json`; `meta.json` has the fields that DataComp's `train.py` reads (its
    `resharder.py`). The samples are spread evenly: the trainer draws shards alike, so those of a short
    last shard would be drawn more often. `deliver` is called with each file when it is whole. Raises
    PoolError for a damaged shard or a sample without a uid.
    """
    out.mkdir(parents=True, exist_ok=True)
    wanted = uid_arrays.UidIndex(subset)
    writer = _Shards(out, _even_size(part, wanted, shard_size), faces, deliver or (lambda _: None))
    boxes = FaceBoxes(part) if faces else None
    processed = 0
    for shard in part.shards:
        index = index_shard(shard.path)
        uids = shard_uids(index)
        start, stop = wanted.runs(uids)
        writer.write(index, uids, stop - start, boxes)
        processed += index.samples
        if progress:
            progress(index.samples)
    writer.close()
    done = Resharded(processed, writer.written, writer.shards, writer.blurred, writer.dropped)
    write_json(out / META, {"shard_size": str(shard_size), **meta_fields(done)})
    writer.deliver(out / META)
    return done


def meta_fields(done: Resharded) -> dict[str, str | int]:
    """Return what a `meta.json` tells of a reshard, of it what DataComp's `train.py` reads."""
    return {
        "output_shard_format": SHARD_FORMAT,
        "output_shard_stats_format": STATS_FORMAT,
        "processed_count": done.processed,
        "output_count": done.written,
        "blur_count": done.blurred,
        "output_shard_count": done.shards,
    }


def _even_size(part: Part, wanted: uid_arrays.UidIndex, most: int) -> int:
    """Return the least shard size, at most `most`, that needs no more shards; dead links are counted too."""
    samples = 0
    for batch in read_columns(part, ["uid"]):
        start, stop = wanted.runs(uid_arrays.from_hex(batch.column(0)))
        samples += int((stop - start).sum())
    shards = -(-samples // most)
    return -(-samples // shards) if shards else most


class _Shards:
    """A row of tars, each begun when a sample needs it."""

    def __init__(
        self, out: Path, size: int, faces: FaceTreatment | None, deliver: Callable[[Path], None]
    ) -> None:
        self._out, self._size, self._faces, self.deliver = out, size, faces, deliver
        self.written = self.shards = self.blurred = self.dropped = 0
        self._open: ShardWriter | None = None

    def write(self, index: ShardIndex, uids: UidArray, times: Ints, boxes: FaceBoxes | None) -> None:
        """Write each sample of a shard so many times, in its order."""
        samples = np.repeat(np.arange(len(times)), times)
        copies = np.arange(len(samples)) - np.repeat(np.cumsum(times) - times, times)
        if boxes is None:
            self._copy(index, samples, uids, copies)
            return
        rows = boxes.rows(uids[samples])
        start = 0
        for place in [*np.flatnonzero(rows >= 0).tolist(), len(samples)]:
            self._copy(index, samples[start:place], uids, copies[start:place])
            if place < len(samples):
                self._treat(index, int(samples[place]), uids, int(copies[place]), boxes.boxes(rows[place]))
            start = place + 1

    def _copy(self, index: ShardIndex, samples: Ints, uids: UidArray, copies: Ints) -> None:
        start = 0
        while start < len(samples):
            to = self._tar()
            stop = min(len(samples), start + self._size - to.samples)
            few = samples[start:stop]
            copy_samples(index, few, uids[few], copies[start:stop], to)
            self._wrote(stop - start)
            start = stop

    def _treat(self, index: ShardIndex, sample: int, uids: UidArray, copy: int, boxes: Boxes) -> None:
        assert self._faces is not None
        members = treat(index.members(sample), boxes, self._faces)
        if members is None:
            self.dropped += copy == 0
            logging.warning(
                "%s: sample %s dropped: its faces cannot be blurred", index.path, index.key(sample)
            )
            return
        uid = uid_arrays.to_hex(uids[sample : sample + 1])[0].as_py()
        self._tar().write(f"{uid}-{copy}", members)
        self.blurred += self._faces.blur and copy == 0
        self._wrote(1)

    def _wrote(self, samples: int) -> None:
        self.written += samples
        if self._open is not None and self._open.samples == self._size:
            self.close()

    def _tar(self) -> ShardWriter:
        if self._open is None:
            self._file = (self._out / SHARD_FORMAT.format(self.shards)).open("wb", 0)
            self._open = ShardWriter(self._file)
        return self._open

    def close(self) -> None:
        """End the tar that is open, if one is."""
        if self._open is None:
            return
        self._open.close()
        self._file.close()
        stats = self._out / STATS_FORMAT.format(self.shards)
        write_json(stats, {"successes": self._open.samples})
        self.deliver(self._out / SHARD_FORMAT.format(self.shards))
        self.deliver(stats)
        self.shards += 1
        self._open = None


_UID_ONLY = pa.json.ParseOptions(
    explicit_schema=pa.schema([("uid", pa.string())]),
    newlines_in_values=True,
    unexpected_field_behavior="ignore",
)


def shard_uids(index: ShardIndex) -> UidArray:
    """Return the uids that the samples' json members name, (samples,) `u8,u8`.

    Raises PoolError, naming the shard and the key, for a sample that has none.
    """
    kind = index.kinds.index("json") if "json" in index.kinds else -1
    members = np.flatnonzero(index.kind == kind)
    if len(members) != index.samples:
        have = np.searchsorted(index.first, members, "right") - 1
        without = np.setdiff1d(np.arange(index.samples), have)[0]
        raise PoolError(f"sample {index.key(without)} has no json with a uid", where=index.path)
    if index.samples == 0:
        return uid_arrays.from_hex(pa.array([], pa.string()))
    first = _leading_uids(index, members)
    if first is not None:
        return first
    texts = [index.member(member) for member in members.tolist()]
    column = _parse_uids(texts)
    if column is None:  # some json is odd or broken: one by one, to use it or to name it
        column = pa.array(
            [_uid(bytes(text), index, sample) for sample, text in enumerate(texts)], pa.string()
        )
    return uid_arrays.from_hex(column)


_LEADING: Final = re.compile(rb'\s*\{\s*"uid"\s*:\s*"')


def _leading_uids(index: ShardIndex, members: Ints) -> UidArray | None:
    """Return the uids of json members that all begin with it, as img2dataset writes them; else None."""
    begin = _LEADING.match(index.member(members[0]))
    if begin is None or int(index.size[members].min()) < begin.end() + 34:
        return None
    start = (index.header[members] + 1) * BLOCK
    flat = index.blocks.reshape(-1)
    texts = flat[start[:, None] + np.arange(begin.end() + 33)]
    alike = (texts[:, : begin.end()] == np.frombuffer(begin[0], np.uint8)).all()
    ended = (texts[:, -1] == ord('"')).all() and (flat[start + index.size[members] - 1] == ord("}")).all()
    if not (alike and ended):
        return None
    try:
        return uid_arrays.from_digits(texts[:, begin.end() : -1])
    except PoolError:
        return None


def _parse_uids(texts: list[memoryview]) -> pa.ChunkedArray | None:
    """Return the uids of json texts, read all at once; None when that doesn't give one for each."""
    try:
        table = pa.json.read_json(
            pa.BufferReader(b"\n".join(texts)),
            read_options=pa.json.ReadOptions(
                use_threads=False, block_size=max(1 << 22, 2 * max(map(len, texts)))
            ),
            parse_options=_UID_ONLY,
        )
    except pa.ArrowException:
        return None
    column = table["uid"]
    return column if len(column) == len(texts) and column.null_count == 0 else None


def _uid(text: bytes, index: ShardIndex, sample: int) -> str:
    return sample_uid(Sample(index.key(sample), {"json": text}), index.path)


def sample_uid(sample: Sample, shard: Path) -> str:
    """Return the uid, 32 hex digits, that a sample's json names.

    Raises PoolError, naming the shard and the key, when there is none.
    """
    try:
        return str(json.loads(sample.members["json"])["uid"])
    except (KeyError, ValueError, TypeError):
        raise PoolError(f"sample {sample.key} has no json with a uid", where=shard) from None
