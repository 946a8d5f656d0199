"""Uids that a whole pool has more than once, found from each part's sorted uids, a range at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.uids import UidArray

#: Uids in memory at a time; 16 bytes each, and a few times that while they are sorted.
_TOGETHER: Final = 1 << 22


@dataclass(frozen=True)
class Repeat:
    """A uid that is in a pool more than once, and the numbers of the files that have it."""

    uid: str
    files: tuple[int, ...]


def repeated_uids(files: Sequence[Path], *, show: int = 20) -> tuple[int, list[Repeat]]:
    """Return how many uids are in the files more than once, and the first few of them.

    files: npy files of sorted uids, which are read a range of the high words at a time: memory does
    not grow with the pool, as uids are spread evenly.
    """
    arrays: list[UidArray] = [np.load(file, mmap_mode="r") for file in files]
    ranges = 1 + sum(map(len, arrays)) // _TOGETHER
    bounds = [number * 2**64 // ranges for number in range(1, ranges)]
    edges = [
        np.concatenate([[0], np.searchsorted(array["f0"], np.array(bounds, np.uint64)), [len(array)]])
        for array in arrays
    ]
    count = 0
    found: list[Repeat] = []
    for number in range(ranges):
        slices = [array[edge[number] : edge[number + 1]] for array, edge in zip(arrays, edges, strict=True)]
        few, repeats = _repeats(slices, show - len(found))
        count += few
        found += repeats
    return count, found


def _repeats(slices: Sequence[UidArray], show: int) -> tuple[int, list[Repeat]]:
    every = np.concatenate([np.empty(0, uid_arrays.UID), *slices])
    owner = np.repeat(np.arange(len(slices)), np.array([len(part) for part in slices], np.int64))
    order = uid_arrays.order(every)
    every, owner = every[order], owner[order]
    same = np.concatenate([[False], every[1:] == every[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    hexes = uid_arrays.to_hex(every[starts[:show]]).to_pylist()
    shown = zip(hexes, starts.tolist(), stops.tolist(), strict=False)
    return len(starts), [Repeat(uid, tuple(owner[start:stop].tolist())) for uid, start, stop in shown]
