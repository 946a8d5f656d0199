"""Whether the training's shards hold the subset: each of its uids that has an image, and nothing else."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecodatum.errors import PoolError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Pool, Shard, read_columns
from ecodatum.pool.resharding import shard_uids
from ecodatum.pool.tar_index import index_shard
from ecodatum.pool.uids import UidArray, UidIndex

_READERS = 4

_T = TypeVar("_T")


@dataclass(frozen=True)
class Comparison:
    """Samples of the shards that are not the subset's, or too many, and samples that they lack."""

    written: int
    foreign: int
    surplus: int
    lacking: int


def outside(subset: UidArray, pool: Pool) -> int:
    """Return how many uids of a sorted subset are not in the pool's metadata; streams over its parts."""
    index, known = UidIndex(subset), np.zeros(len(subset) + 1, np.int64)
    for part in pool.parts:
        for batch in read_columns(part, ["uid"]):
            start, stop = index.runs(uid_arrays.from_hex(batch.column(0)))
            np.maximum.at(known, start, stop - start)
    # A uid that is k times in the subset is known from its first place on.
    _, first, times = np.unique(subset, return_index=True, return_counts=True)
    return int(times[known[first] == 0].sum())


def compare(
    subset: UidArray, pool: Pool, shards: Iterable[Path], progress: Callable[[int], None] = lambda n: None
) -> Comparison:
    """Compare the samples in a training's shards with those that a subset takes from the pool's shards.

    subset: (n,) of `u8,u8`, sorted; a uid that is k times in it has each of its images k times, as the
    resharder writes them. Which samples of the pool have an image is read from img2dataset's list beside
    each shard, or from the shard itself where there is none; `progress` is called with 1 for each shard
    of either kind. Raises PoolError for one that is damaged.
    """
    index = UidIndex(subset)
    there, taken = np.zeros(len(subset) + 1, np.int64), np.zeros(len(subset) + 1, np.int64)
    written = foreign = 0
    for uids in _each(_uids_of, shards, progress):
        start, stop = index.runs(uids)
        mine = stop > start
        np.add.at(there, start[mine], 1)
        written, foreign = written + len(uids), foreign + int((~mine).sum())
    for uids in _each(downloaded, (shard for part in pool.parts for shard in part.shards), progress):
        start, stop = index.runs(uids)
        np.add.at(taken, start, stop - start)
    missing = taken - there
    return Comparison(written, foreign, int(-missing[missing < 0].sum()), int(missing[missing > 0].sum()))


def _each(
    read: Callable[[_T], UidArray], items: Iterable[_T], progress: Callable[[int], None]
) -> Iterator[UidArray]:
    with ThreadPoolExecutor(_READERS) as threads:
        for uids in threads.map(read, items):
            yield uids
            progress(1)


def _uids_of(shard: Path) -> UidArray:
    return shard_uids(index_shard(shard))


def downloaded(shard: Shard) -> UidArray:
    """Return the uids of the samples of a pool's shard that have an image, (n,) `u8,u8`."""
    rows = shard.path.with_suffix(".parquet")
    if not rows.is_file():
        return _uids_of(shard.path)
    try:
        table = pq.read_table(rows, columns=["uid", "status"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise PoolError(f"cannot be read: {error}", where=rows) from error
    return uid_arrays.from_hex(table.filter(pc.equal(table["status"], "success"))["uid"])
