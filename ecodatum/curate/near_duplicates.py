"""Near-duplicates: groups the hashes of a whole pool that differ in few bits, without comparing all pairs.

Two hashes that differ in at most d of their bits agree on b - d of any b blocks of bits. So for each
choice of b - d blocks the hashes are sorted by these, and only those that agree on them are compared
(Manku, Jain and Das Sarma 2007, "Detecting near-duplicates for web crawling"). How many blocks is
chosen by what sorting and comparing would cost for that many hashes.

Where many hashes lie close together (nearly plain pictures), most of them are soon known to be of one
group, and only the others there are compared with them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, pairwise
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Pairs = Iterator[tuple[Hashes, Hashes]]
GroupsOf = Callable[[Hashes], npt.NDArray[np.integer]]

#: What sorting one hash costs, and what each choice of blocks, in comparisons of a pair.
_SORT_COST: Final = 20
_SPLIT_COST: Final = 20_000

#: A run of hashes with equal blocks that is longer than this is split by further blocks, but if all
#: but a few of it are of one group.
_LONG_RUN: Final = 512
_FEW: Final = 256

#: Hashes that are compared with their followers at once, so that the work stays in the cache.
_CHUNK: Final = 1 << 17

#: Pairs that are held before they are joined to groups.
_HELD_PAIRS: Final = 1 << 23


def group(hashes: Hashes, within: int) -> npt.NDArray[np.int64]:
    """Return the group of each hash, (n,) int64 from 0 on.

    hashes: (n,) uint64. within: the Hamming distance up to which two are near-duplicates.
    Groups are connected components: hashes that are further apart are in one group when a chain of
    near-duplicates joins them. Equal hashes are collapsed first, so a million copies cost no more
    than one.
    """
    distinct, place = np.unique(hashes, return_inverse=True)
    if within == 0 or len(distinct) < 2:
        return place
    groups = _Groups(distinct)
    for distance in sorted({min(2, within), within}):  # the near ones first join what lies close together
        for left, right in _Search(distance).near_pairs(distinct, 64, groups.of):
            groups.join(left, right)
        groups.fold()
    return groups.of(distinct)[place]


class _Search:
    """Finds the pairs of hashes that differ in at most `within` bits, and counts what that costs.

    Pairs come as two (k,) arrays at a time, some more than once; one of hashes that are known to be of
    one group may be left out. `work`: comparisons so far, or what took as long.
    """

    def __init__(self, within: int) -> None:
        self._within = within
        self._work = 0.0

    def near_pairs(self, distinct: Hashes, bits: int, groups_of: GroupsOf) -> Pairs:
        """Yield the near pairs of (n,) hashes, no two the same, that differ in their lowest `bits` alone.

        Where the hashes are so much alike that blocks do not tell them apart, splitting costs more than
        comparing all pairs. Then that is done, so that no input takes more than a few times as long.
        """
        blocks = _block_count(len(distinct), self._within, bits)
        limit = self._work + len(distinct) ** 2 / 2
        if blocks is not None:
            edges = [bits * block // blocks for block in range(blocks + 1)]
            fields = [(low, high - low) for low, high in pairwise(edges)]
            for agreeing in combinations(fields, blocks - self._within):
                if self._work > limit:
                    break
                layout = [field for field in fields if field not in agreeing] + list(agreeing)
                free = bits - sum(width for _, width in agreeing)
                ordered = np.sort(_laid_out(distinct, layout, bits))
                self._work += _SPLIT_COST + _SORT_COST * len(ordered)
                here = partial(_groups_of_laid_out, groups_of, layout, bits)
                for left, right in self._agreeing_pairs(ordered, free, here):
                    yield _put_back(left, layout, bits), _put_back(right, layout, bits)
            else:
                return
        yield from self._compare(distinct, np.arange(len(distinct) - 1), bits)

    def _agreeing_pairs(self, ordered: Hashes, free: int, groups_of: GroupsOf) -> Pairs:
        """Yield the near pairs of sorted hashes whose bits above the `free` lowest are the same."""
        same = (ordered[1:] ^ ordered[:-1]) >> np.uint64(free) == 0
        starts = np.concatenate(([0], np.flatnonzero(~same) + 1))
        lengths = np.diff(starts, append=len(ordered))
        for run in np.flatnonzero(lengths > _LONG_RUN):
            start, stop = starts[run], starts[run] + lengths[run]
            same[start : stop - 1] = False
            yield from self._pairs_of_run(ordered[start:stop], free, groups_of)
        del starts, lengths
        yield from self._compare(ordered, np.flatnonzero(same), free)

    def _pairs_of_run(self, run: Hashes, free: int, groups_of: GroupsOf) -> Pairs:
        """Yield the near pairs of a long run, or only those with hashes not of its largest group."""
        groups = groups_of(run)
        found, sizes = np.unique(groups, return_counts=True)
        others = run[groups != found[np.argmax(sizes)]]
        if len(others) > _FEW:
            yield from self.near_pairs(run, free, groups_of)
            return
        self._work += (_SORT_COST + len(others)) * len(run)
        for other in others:
            near = run[np.bitwise_count(run ^ other) <= self._within]
            yield np.full(len(near), other), near

    def _compare(self, ordered: Hashes, rows: npt.NDArray[np.int64], free: int) -> Pairs:
        """Compare the hashes at `rows` with those after them, as long as bits above `free` are the same."""
        for start in range(0, len(rows), _CHUNK):
            active, step = rows[start : start + _CHUNK], 1
            while len(active):
                self._work += len(active)
                left, right = ordered[active], ordered[active + step]
                differing = left ^ right
                near = np.bitwise_count(differing) <= self._within
                if free < 64:
                    same = differing >> np.uint64(free) == 0
                    near &= same
                    active = active[same]
                if near.any():
                    yield left[near], right[near]
                step += 1
                active = active[: np.searchsorted(active, len(ordered) - step)]


def _block_count(count: int, within: int, bits: int) -> int | None:
    """Return into how many blocks to split; None where comparing all pairs is cheapest."""
    pairs = count * (count - 1) / 2
    costs: dict[int | None, float] = {None: pairs}
    for blocks in range(within + 1, min(bits, within + 6) + 1):
        sorted_by = bits * (blocks - within) // blocks
        split = _SPLIT_COST + _SORT_COST * count + pairs / 2**sorted_by
        costs[blocks] = comb(blocks, within) * split
    return min(costs, key=lambda blocks: costs[blocks])


def _groups_of_laid_out(
    groups_of: GroupsOf, layout: list[tuple[int, int]], bits: int, hashes: Hashes
) -> npt.NDArray[np.integer]:
    return groups_of(_put_back(hashes, layout, bits))


def _laid_out(hashes: Hashes, layout: list[tuple[int, int]], bits: int) -> Hashes:
    """Move fields of bits, (start, width) each, to the order of `layout`, the first one lowest."""
    moved = _above(hashes, bits)
    place = 0
    for start, width in layout:
        moved |= ((hashes >> np.uint64(start)) & _ones(width)) << np.uint64(place)
        place += width
    return moved


def _put_back(hashes: Hashes, layout: list[tuple[int, int]], bits: int) -> Hashes:
    """Undo `_laid_out`."""
    moved = _above(hashes, bits)
    place = 0
    for start, width in layout:
        moved |= ((hashes >> np.uint64(place)) & _ones(width)) << np.uint64(start)
        place += width
    return moved


def _above(hashes: Hashes, bits: int) -> Hashes:
    """Return the hashes without their lowest bits, a new array."""
    return hashes & ~_ones(bits)


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


class _Groups:
    """Joins distinct, sorted hashes to groups as pairs of them come."""

    def __init__(self, distinct: Hashes) -> None:
        self._distinct = distinct
        self._labels = np.arange(len(distinct), dtype=np.int32 if len(distinct) < 2**31 else np.int64)
        self._pairs: list[tuple[Hashes, Hashes]] = []
        self._held = 0

    def join(self, left: Hashes, right: Hashes) -> None:
        self._pairs.append((left, right))
        self._held += len(left)
        if self._held > _HELD_PAIRS:
            self.fold()

    def of(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the groups of some of the hashes, as far as pairs have been folded in; (k,)."""
        return self._labels[np.searchsorted(self._distinct, hashes)].astype(np.int64)

    def fold(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._pairs:
            return
        ends = [
            self._labels[np.searchsorted(self._distinct, np.concatenate(side))]
            for side in zip(*self._pairs, strict=True)
        ]
        self._pairs, self._held = [], 0
        size = int(self._labels.max()) + 1
        graph = coo_array((np.ones(len(ends[0]), np.int8), (ends[0], ends[1])), shape=(size, size))
        _, joined = connected_components(graph, directed=False)
        self._labels = joined[self._labels]
