"""Reshards: copies a subset's samples from a part's shards to new ones, bytes untouched."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ecodatum.errors import PoolError
from ecodatum.files import write_json
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.shards import Sample, ShardWriter, read_shard
from ecodatum.pool.uids import UidArray

_LOOKUP = 1024


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
    processed = 0
    for shard in part.shards:
        for samples in _batches(read_shard(shard.path)):
            uids = _uids(samples, shard.path)
            start, stop = wanted.runs(uids)
            hexes = uid_arrays.to_hex(uids).to_pylist()
            for index in np.flatnonzero(stop > start):
                for copy in range(stop[index] - start[index]):
                    writer.write(f"{hexes[index]}-{copy}", samples[index])
            processed += len(samples)
            if progress:
                progress(len(samples))
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

    def write(self, key: str, sample: Sample) -> None:
        if self._open is None:
            self._file = (self._out / f"{self.shards:08d}.tar").open("wb")
            self._open = ShardWriter(self._file)
        self._open.write(key, sample.members)
        self.written += 1
        if self._open.samples == self._size:
            self.close()

    def close(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self._file.close()
        write_json(self._out / f"{self.shards:08d}_stats.json", {"successes": self._open.samples})
        self.shards += 1
        self._open = None


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == _LOOKUP:
            yield batch
            batch = []
    if batch:
        yield batch


def _uids(samples: list[Sample], shard: Path) -> UidArray:
    """Read the uids of a batch of samples from their json members."""
    return uid_arrays.from_hex(pa.array([sample_uid(sample, shard) for sample in samples], pa.string()))


def sample_uid(sample: Sample, shard: Path) -> str:
    """Return the uid, 32 hex digits, that a sample's json names.

    Raises PoolError, naming the shard and the key, when there is none.
    """
    try:
        return str(json.loads(sample.members["json"])["uid"])
    except (KeyError, ValueError, TypeError):
        raise PoolError(f"sample {sample.key} has no json with a uid", where=shard) from None
