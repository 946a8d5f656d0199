"""Deduplication: takes a recipe's steps over a whole pool, each over what the ones before have left.

The pool's columns are held as far as a step needs them: 8 bytes a hash, and 16 of uid and 4 to 8 of quality
for those that have a near-duplicate; for steps within clusters, for all. That is at most some 60 bytes a
sample while sorting; embeddings are never held (see semantic_duplicates).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.curate.deduplication_steps import (
    DensityPruning,
    NearDuplicates,
    SemanticDuplicates,
    Step,
    TopShare,
)
from ecodatum.curate.density import allot
from ecodatum.curate.near_duplicates import group
from ecodatum.curate.scores import PartScores, as_numbers
from ecodatum.curate.semantic_duplicates import worse_duplicates
from ecodatum.errors import ConfigError
from ecodatum.pool.pool import Part
from ecodatum.pool.uids import UidArray
from ecodatum.splitmix import mixed

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Counts = dict[str, Any]


class ScoredPart(Protocol):
    """A part of the pool with its scores."""

    @property
    def part(self) -> Part:
        """The part."""

    def scores(self) -> PartScores:
        """Return its scores."""

    def uids(self) -> UidArray:
        """Return the uids of its rows."""


def deduplicate(
    steps: Sequence[Step], parts: Sequence[ScoredPart], scratch: Path, progress: Callable[[int], None]
) -> tuple[list[Mask], list[Counts]]:
    """Return which rows survive all steps, for each part a mask (rows,), and what each step did.

    scratch: a folder for temporary files. progress: is told of the pool's rows after each step.
    The counts of a step: `step`, its name; `candidates`, what the steps above left of the pool; `groups`
    of two or more near-duplicates (clusters, where a density decides); `removed`.
    Raises ConfigError for a column of the wrong type, PoolError for a damaged file.
    """
    pool = _Pool(parts)
    alive = np.ones(pool.starts[-1], bool)
    counts = []
    for step in steps:
        candidates = int(alive.sum())
        groups = _TAKE[type(step)](step, pool, alive, scratch)
        left = int(alive.sum())
        counts.append(
            {"step": step.name, "candidates": candidates, "groups": groups, "removed": candidates - left}
        )
        progress(len(alive))
    return [alive[start:stop] for start, stop in pairwise(pool.starts)], counts


class _Pool:
    """The columns of all parts, one after another; a row is counted from the pool's first."""

    def __init__(self, parts: Sequence[ScoredPart]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(part.part.rows for part in parts)])

    def known(self, name: str, alive: Mask) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the candidates that have a value in a column of integers: rows and values, each (k,)."""
        rows, values = [np.empty(0, np.int64)], []
        for part, start in zip(self.parts, self.starts, strict=False):
            column = part.scores().column(name)
            if not pa.types.is_integer(column.type):
                raise ConfigError(
                    f"a score of type {column.type} is neither a hash nor a cluster",
                    where=name,
                    todo="name a column of integers",
                )
            has = alive[start : start + len(column)] & column.is_valid().to_numpy()
            rows.append(start + np.flatnonzero(has))
            values.append(pc.fill_null(column, 0).to_numpy()[has])
        return np.concatenate(rows), np.concatenate(values)

    def numbers(self, name: str, rows: Rows) -> npt.NDArray[np.floating]:
        """Return a score column at ascending rows, (k,), nulls as NaN."""
        return self._at(rows, lambda part: as_numbers(part.scores().column(name)))

    def best_first(self, step: Step, rows: Rows, groups: npt.NDArray[Any]) -> Rows:
        """Return the order of ascending rows, (k,), that sorts them by group, the best of each first."""
        uids: UidArray = self._at(rows, lambda part: part.uids())
        high, low = np.ascontiguousarray(uids["f0"]), np.ascontiguousarray(uids["f1"])
        chance = step.keep_best == "random"
        worse = _chance(high, low, step.seed) if chance else -self.numbers(step.keep_best, rows)
        return np.lexsort((low, high, worse, groups))

    def _at(self, rows: Rows, read: Callable[[ScoredPart], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        ends = np.searchsorted(rows, self.starts)
        pieces = [
            read(part)[rows[first:last] - start]
            for part, start, first, last in zip(self.parts, self.starts, ends, ends[1:], strict=False)
        ]
        return np.concatenate(pieces)


def _chance(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return a number for each uid that only the seed decides, (n,)."""
    return mixed(high ^ mixed(low + np.uint64(seed)))


def _near_duplicates(step: NearDuplicates, pool: _Pool, alive: Mask, _: Path) -> int:
    rows, hashes = pool.known(step.hash, alive)
    groups = group(hashes.astype(np.uint64, copy=False), step.within)
    several = np.bincount(groups)[groups] > 1 if len(groups) else np.empty(0, bool)
    rows, groups = rows[several], groups[several]
    order = pool.best_first(step, rows, groups)
    best = np.diff(groups[order], prepend=-1) > 0
    alive[rows[order[~best]]] = False
    return int(best.sum())


def _semantic_duplicates(step: SemanticDuplicates, pool: _Pool, alive: Mask, scratch: Path) -> int:
    rows, clusters = pool.known(step.clusters, alive)
    order = pool.best_first(step, rows, clusters)
    parts = [part.part for part in pool.parts]
    worse, best = worse_duplicates(parts, step.embeddings, rows[order], clusters[order], step.above, scratch)
    alive[rows[order[worse]]] = False
    return int(best.sum())


def _density_pruning(step: DensityPruning, pool: _Pool, alive: Mask, _: Path) -> int:
    rows, clusters = pool.known(step.clusters, alive)
    names, place, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    d_intra = np.bincount(place, pool.numbers(step.distance, rows), len(names)) / sizes
    d_inter = np.bincount(place, pool.numbers(step.isolation, rows), len(names)) / sizes
    complexity = np.nan_to_num(d_intra * d_inter)
    quota = allot(sizes, complexity, int(step.top * len(rows)), step.temperature)
    order = pool.best_first(step, rows, place)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    alive[:] = False
    alive[rows[order[rank < quota[place[order]]]]] = True
    return len(names)


def _top_share(step: TopShare, pool: _Pool, alive: Mask, _: Path) -> int:
    rows = np.flatnonzero(alive)
    order = pool.best_first(step, rows, np.zeros(len(rows), np.int8))
    alive[rows[order[int(step.top * len(rows)) :]]] = False
    return 0


_TAKE: dict[type, Callable[[Any, _Pool, Mask, Path], int]] = {
    NearDuplicates: _near_duplicates,
    SemanticDuplicates: _semantic_duplicates,
    DensityPruning: _density_pruning,
    TopShare: _top_share,
}
