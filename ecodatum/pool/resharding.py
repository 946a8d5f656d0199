"""Reshards: copies a subset's samples from a part's shards to new ones, bytes untouched."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json

from ecodatum.errors import PoolError
from ecodatum.files import write_json
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.shard_copy import copy_samples
from ecodatum.pool.shards import Sample, ShardWriter
from ecodatum.pool.tar_index import Ints, ShardIndex, ShardReader
from ecodatum.pool.uids import UidArray


@dataclass(frozen=True)
class Resharded:
    """What a reshard did: samples read, samples written (copies counted), shards written."""

    processed: int
    written: int
    shards: int


def reshard(
    part: Part,
    subset: UidArray,
    out: Path,
    *,
    shard_size: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> Resharded:
    """Write the samples of `part` whose uid is in `subset` to `out` as webdataset shards.

    A uid that is k times in the subset is written k times, keyed `<uid>-<j>`; the members' bytes are
    copied. Beside each `{:08d}.tar` of at most `shard_size` samples lies its `_stats.json`; `meta.json`
    has the fields that DataComp's `train.py` reads (its `resharder.py`). The samples are spread evenly:
    the trainer draws shards alike, so those of a short last shard would be drawn more often. Raises
    PoolError for a damaged shard or a sample without a uid.
    """
    out.mkdir(parents=True, exist_ok=True)
    wanted = uid_arrays.UidIndex(subset)
    writer = _Shards(out, _even_size(part, wanted, shard_size))
    reader = ShardReader()
    processed = 0
    for shard in part.shards:
        index = reader.index(shard.path)
        uids = shard_uids(index)
        start, stop = wanted.runs(uids)
        writer.write(index, uids, stop - start)
        processed += index.samples
        if progress:
            progress(index.samples)
    writer.close()
    done = Resharded(processed, writer.written, writer.shards)
    write_json(
        out / "meta.json",
        {
            "output_shard_format": "{:08d}.tar",
            "output_shard_stats_format": "{:08d}_stats.json",
            "shard_size": str(shard_size),
            "processed_count": done.processed,
            "output_count": done.written,
            "output_shard_count": done.shards,
        },
    )
    return done


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

    def __init__(self, out: Path, size: int) -> None:
        self._out, self._size = out, size
        self.written = self.shards = 0
        self._open: ShardWriter | None = None

    def write(self, index: ShardIndex, uids: UidArray, times: Ints) -> None:
        """Write each sample of a shard so many times, in its order."""
        samples = np.repeat(np.arange(len(times)), times)
        copies = np.arange(len(samples)) - np.repeat(np.cumsum(times) - times, times)
        start = 0
        while start < len(samples):
            to = self._tar()
            stop = min(len(samples), start + self._size - to.samples)
            few = samples[start:stop]
            copy_samples(index, few, uids[few], copies[start:stop], to)
            self.written += stop - start
            start = stop
            if to.samples == self._size:
                self.close()

    def _tar(self) -> ShardWriter:
        if self._open is None:
            self._file = (self._out / f"{self.shards:08d}.tar").open("wb", 0)
            self._open = ShardWriter(self._file)
        return self._open

    def close(self) -> None:
        """End the tar that is open, if one is."""
        if self._open is None:
            return
        self._open.close()
        self._file.close()
        write_json(self._out / f"{self.shards:08d}_stats.json", {"successes": self._open.samples})
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
    texts = [index.member(member) for member in members.tolist()]
    column = _parse_uids(texts)
    if column is None:  # some json is odd or broken: one by one, to use it or to name it
        column = pa.array(
            [_uid(bytes(text), index, sample) for sample, text in enumerate(texts)], pa.string()
        )
    return uid_arrays.from_hex(column)


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
