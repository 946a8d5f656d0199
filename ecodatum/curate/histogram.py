"""The histogram of vote patterns: all that the label model and the LF analysis need of a pool."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecodatum.curate.voting import ABSTAIN, unpack


@dataclass(frozen=True)
class Histogram:
    """Distinct vote patterns, ascending, (k,) uint64, and how often each occurs, (k,) int64."""

    patterns: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, patterns: npt.NDArray[np.uint64]) -> Self:
        """Count the patterns of some rows."""
        distinct, counts = np.unique(patterns, return_counts=True)
        return cls(distinct, counts.astype(np.int64))

    @classmethod
    def merged(cls, histograms: Iterable[Self]) -> Self:
        """Add histograms; merging those of the parts equals counting the whole pool."""
        every = list(histograms)
        if not every:
            return cls(np.empty(0, np.uint64), np.empty(0, np.int64))
        distinct, place = np.unique(np.concatenate([h.patterns for h in every]), return_inverse=True)
        counts = np.zeros(len(distinct), np.int64)
        np.add.at(counts, place, np.concatenate([h.counts for h in every]))
        return cls(distinct, counts)

    @property
    def total(self) -> int:
        """The number of rows."""
        return int(self.counts.sum())


def lf_summary(histogram: Histogram, names: list[str]) -> pd.DataFrame:
    """Return Snorkel's LF summary from the histogram, a row per labelling function.

    Columns: `polarity` (the votes it gives), `coverage` (share of rows it votes on), `overlaps` (share
    on which another votes too), `conflicts` (share on which another votes otherwise). Equal to
    snorkel.labeling.LFAnalysis on the full matrix.
    """
    votes = unpack(histogram.patterns, len(names))
    weights = histogram.counts / max(histogram.total, 1)
    voted = votes != ABSTAIN
    overlap = voted & (voted.sum(axis=1, keepdims=True) > 1)
    both = ((votes == 0).any(axis=1) & (votes == 1).any(axis=1))[:, None]
    return pd.DataFrame(
        {
            "polarity": [sorted({int(v) for v in column} - {ABSTAIN}) for column in votes.T],
            "coverage": weights @ voted,
            "overlaps": weights @ overlap,
            "conflicts": weights @ (voted & both),
        },
        index=pd.Index(names, name="labelling function"),
    )
