"""Selection: which samples stay, and the cut that decides."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecodatum.curate.order_statistics import kth_largest
from ecodatum.curate.recipe import Keep
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.uids import UidArray

#: The pattern of a row that is no candidate, because a rule of the recipe dropped it.
NO_CANDIDATE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Ranked:
    """A part's rows as selection sees them.

    patterns: (n,) uint64, NO_CANDIDATE for rows that a rule dropped. ties: (n,) float, the score that
    orders rows of equal probability, NaN last. uids: (n,) of dtype u8,u8.
    """

    uids: UidArray
    patterns: npt.NDArray[np.uint64]
    ties: npt.NDArray[np.floating]


@dataclass(frozen=True)
class Cut:
    """Where the ranking is cut: patterns above it, patterns that it goes through, and how."""

    above: npt.NDArray[np.uint64]
    through: npt.NDArray[np.uint64]
    probability: float
    tie_score: float
    at_tie_score: int
    rows_through: int


Parts = Callable[[], Iterable[Ranked]]


def size_to_keep(keep: Keep, candidates: int) -> int:
    """Return how many samples stay of `candidates`: int(top·candidates), or `count` if there are as many."""
    wanted = int(keep.top * candidates) if keep.top is not None else (keep.count or 0)
    return min(wanted, candidates)


def find_cut(
    patterns: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    size: int,
    parts: Parts,
) -> Cut:
    """Find the cut that keeps exactly `size` rows, the most probable first, ties by their score.

    patterns, counts, probabilities: (k,) each, the candidates' histogram and P(SELECT).
    parts: gives the pool's parts anew at each call; only the tie scores at the cut are looked at.
    """
    order = np.argsort(-probabilities, kind="stable")
    ends = np.cumsum(counts[order])
    level = probabilities[order[min(int(np.searchsorted(ends, size)), len(order) - 1)]]
    above, through = np.sort(patterns[probabilities > level]), np.sort(patterns[probabilities == level])
    wanted = size - int(counts[probabilities > level].sum())
    rows = int(counts[probabilities == level].sum())

    def tie_scores() -> Iterator[npt.NDArray[np.floating]]:
        for part in parts():
            yield _lowest_for_nan(part.ties[np.isin(part.patterns, through)])

    score = kth_largest(tie_scores, wanted - 1) if wanted else None
    if score is None:
        return Cut(above, through, float(level), np.inf, 0, rows)
    better = sum(int((chunk > score).sum()) for chunk in tie_scores())
    return Cut(above, through, float(level), score, wanted - better, rows)


def select(cut: Cut, parts: Parts, *, file_order: bool) -> UidArray:
    """Return the uids of the rows that the cut keeps.

    Rows at the cut's very tie score are taken by ascending uid, or in file order where a recipe asks
    for that.
    """
    kept: list[UidArray] = []
    ties: list[UidArray] = []
    for part in parts():
        through = np.isin(part.patterns, cut.through)
        scores = _lowest_for_nan(part.ties)
        kept.append(part.uids[np.isin(part.patterns, cut.above) | (through & (scores > cut.tie_score))])
        ties.append(part.uids[through & (scores == cut.tie_score)])
    last = np.concatenate(ties)
    if not file_order:
        last = last[uid_arrays.order(last)]
    return np.concatenate([*kept, last[: cut.at_tie_score]])


def _lowest_for_nan(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.where(np.isnan(values), values.dtype.type(-np.inf), values)
