"""The mean of normalised scores: the ensemble without votes, which the label model is compared with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ecodatum.curate.recipe import LabellingFunction
from ecodatum.curate.scores import as_numbers
from ecodatum.curate.voting import REJECT, SELECT, Columns, vote

_RISING = ("at_least", "above")


def function_scores(function: LabellingFunction, columns: Columns, rows: int) -> npt.NDArray[np.float64]:
    """Return what a labelling function sees, higher for better: (rows,) float64, NaN at nulls.

    The score that it compares, with the sign of the side that it selects. Where there is no such score (it
    compares several, from both sides, or a word) its vote: SELECT 1, ABSTAIN 0, REJECT -1.
    """
    directed = set(_directed(function))
    if len(directed) == 1 and None not in directed:
        ((name, sign),) = (item for item in directed if item is not None)
        return sign * as_numbers(columns[name]).astype(np.float64)
    votes = vote(function, columns, rows)
    signed: npt.NDArray[np.float64] = (votes == SELECT).astype(np.float64) - (votes == REJECT)
    return signed


def _directed(function: LabellingFunction) -> Iterator[tuple[str, int] | None]:
    """Yield each score that a function compares with the sign that it gives it, None for a word."""
    if function.score is not None:
        yield function.score, 1
    for conditions, side in ((function.select, 1), (function.reject, -1), (function.reject_unless, 1)):
        for condition in conditions:
            if condition.equals is not None:
                yield None
            for bound, _ in condition.bounds():
                yield condition.score, side * (1 if bound in _RISING else -1)


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of m columns, each (m,), of finite values alone."""

    counts: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, columns: Sequence[npt.NDArray[np.float64]]) -> Self:
        """Count some rows."""
        kept = [column[np.isfinite(column)] for column in columns]
        means = [column.mean() if len(column) else 0.0 for column in kept]
        squares = [((column - mean) ** 2).sum() for column, mean in zip(kept, means, strict=True)]
        return cls(np.array([len(c) for c in kept], np.float64), np.array(means), np.array(squares))

    @classmethod
    def merged(cls, every: Iterable[Self]) -> Self:
        """Add the moments of parts, in their order (Chan, Golub and LeVeque 1983)."""
        first, *rest = every
        counts, means, squares = first.counts, first.means, first.squares
        for other in rest:
            total = np.maximum(counts + other.counts, 1)
            apart = other.means - means
            squares = squares + other.squares + apart**2 * counts * other.counts / total
            means = means + apart * other.counts / total
            counts = counts + other.counts
        return cls(counts, means, squares)

    def standardised(self, columns: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Return the mean over the columns of (value - mean) / deviation, (rows,).

        What is not finite counts as the mean.
        """
        deviations = np.sqrt(self.squares / np.maximum(self.counts, 1))
        total = np.zeros(len(columns[0]))
        for column, mean, deviation in zip(columns, self.means, deviations, strict=True):
            if deviation > 0:
                total += np.where(np.isfinite(column), (column - mean) / deviation, 0.0)
        return total / len(columns)
