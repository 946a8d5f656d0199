"""What is doubtful about a label model: agreement of its functions, its probabilities, and warnings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.label_model import Combined
from ecodatum.curate.recipe import LabellingFunction
from ecodatum.curate.voting import ABSTAIN, REJECT, SELECT, unpack

#: Equal bins of P(SELECT) from 0 to 1, and the agreement above which two functions count as copies.
BINS: Final = 20
COPIES: Final = 0.95

#: A function that gives one and the same vote to this share of the rows tells nothing about them.
_NEARLY_ALL: Final = 0.99
#: How far under chance an agreement must lie: this much, and this many standard errors.
_UNDER_CHANCE: Final = 0.01
_STANDARD_ERRORS: Final = 3


@dataclass(frozen=True)
class Doubt:
    """One reason to distrust a label model: its kind, the functions concerned, and what to do."""

    kind: str
    functions: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Diagnostics:
    """What the histogram tells about a label model of m functions.

    together: (m, m) int64, rows on which both functions vote (on the diagonal: on which it votes).
    agreement: (m, m), the share of those on which the votes are equal; NaN where there are none.
    distribution: (BINS,) int64, rows by P(SELECT) in equal bins from 0 to 1.
    """

    names: tuple[str, ...]
    together: npt.NDArray[np.int64]
    agreement: npt.NDArray[np.float64]
    distribution: npt.NDArray[np.int64]
    doubts: tuple[Doubt, ...]

    def document(self) -> dict[str, Any]:
        """Return everything as JSON values; an agreement without rows is null."""
        shares = [[None if np.isnan(v) else v for v in row] for row in self.agreement.tolist()]
        doubts = [{"kind": d.kind, "functions": d.functions, "message": d.message} for d in self.doubts]
        return {
            "labelling_functions": self.names,
            "together": self.together.tolist(),
            "agreement": shares,
            "distribution": self.distribution.tolist(),
            "warnings": doubts,
        }


def diagnose(histogram: Histogram, functions: Sequence[LabellingFunction], fitted: Combined) -> Diagnostics:
    """Return the diagnostics of a label model that was fitted on the histogram."""
    votes = unpack(histogram.patterns, len(functions))
    together, agreement = _agreement(votes, histogram.counts)
    names = tuple(function.name for function in functions)
    doubts = (
        *_too_few(together, names),
        *_one_sided(votes, histogram, functions),
        *_contrary(votes, histogram.counts, fitted.weights, names),
        *_copies(votes, histogram.counts, together, agreement, names),
    )
    places = np.minimum((fitted.probabilities * BINS).astype(np.int64), BINS - 1)
    distribution = np.zeros(BINS, np.int64)
    np.add.at(distribution, places, histogram.counts)
    return Diagnostics(names, together, agreement, distribution, doubts)


def _agreement(
    votes: npt.NDArray[np.int8], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    voted = (votes != ABSTAIN).astype(np.int64)
    together = voted.T @ (voted * counts[:, None])
    equal = np.zeros_like(together)
    for label in (REJECT, SELECT):
        cast = (votes == label).astype(np.int64)
        equal += cast.T @ (cast * counts[:, None])
    with np.errstate(invalid="ignore"):
        return together, equal / together


def _too_few(together: npt.NDArray[np.int64], names: Sequence[str]) -> Iterator[Doubt]:
    voting = np.diag(together) > 0
    for name in (name for name, votes in zip(names, voting, strict=True) if not votes):
        yield Doubt("silent", (name,), f"{name} never votes: loosen its thresholds, or leave it out")
    if voting.sum() < 3:
        yield Doubt(
            "too few",
            tuple(names),
            f"{voting.sum()} of {len(names)} labelling functions vote: a label model needs three, and its"
            " weights mean nothing",
        )


def _one_sided(
    votes: npt.NDArray[np.int8], histogram: Histogram, functions: Sequence[LabellingFunction]
) -> Iterator[Doubt]:
    """Find functions that could give both votes and give one, or that give all rows the same."""
    for function, column in zip(functions, votes.T, strict=True):
        cast = [label for label in (REJECT, SELECT) if (column == label).any()]
        if len(cast) != 1:
            continue
        voted = int(histogram.counts[column != ABSTAIN].sum())
        word = "SELECT" if cast[0] == SELECT else "REJECT"
        both = function.score is not None or bool(
            function.select and (function.reject or function.reject_unless)
        )
        if both or voted >= _NEARLY_ALL * histogram.total:
            yield Doubt(
                "constant",
                (function.name,),
                f"{function.name} votes {word} on all {voted:,} samples that it votes on, and tells nothing"
                " about them: move its thresholds into the range of its scores",
            )


def _contrary(
    votes: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    names: Sequence[str],
) -> Iterator[Doubt]:
    """Find functions that agree with the weighted vote of the others less often than by chance.

    Chance: what independent votes with the same shares of SELECT would agree on.
    """
    signed = (votes == SELECT).astype(np.float64) - (votes == REJECT)
    others = (signed @ weights)[:, None] - signed * weights
    decided = np.abs(others) > 1e-9
    for j, name in enumerate(names):
        rows = counts * decided[:, j]
        mine = rows * (signed[:, j] != 0)
        if not mine.sum():
            continue
        agree = float(mine[signed[:, j] * others[:, j] > 0].sum() / mine.sum())
        selects = mine[signed[:, j] > 0].sum() / mine.sum()
        expected = rows[others[:, j] > 0].sum() / rows.sum()
        chance = float(selects * expected + (1 - selects) * (1 - expected))
        noise = _STANDARD_ERRORS * float(np.sqrt(chance * (1 - chance) / mine.sum()))
        if agree < chance - max(_UNDER_CHANCE, noise):
            yield Doubt(
                "contrary",
                (name,),
                f"{name} agrees with the weighted vote of the others on {agree:.0%} of its votes,"
                f" where chance would give {chance:.0%}: is it the wrong way round?",
            )


def _copies(
    votes: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int64],
    together: npt.NDArray[np.int64],
    agreement: npt.NDArray[np.float64],
    names: Sequence[str],
) -> Iterator[Doubt]:
    """Find pairs of functions whose votes are nearly always the same.

    Functions that know one vote only always agree: they are copies if they vote on the same rows.
    """
    for i, j in combinations(range(len(names)), 2):
        if not agreement[i, j] > COPIES:
            continue
        both = (votes[:, i] != ABSTAIN) & (votes[:, j] != ABSTAIN)
        either = together[i, i] + together[j, j] - together[i, j]
        varied = all(len(np.unique(votes[both, k])) > 1 for k in (i, j))
        if varied or together[i, j] > COPIES * either:
            yield Doubt(
                "copies",
                (names[i], names[j]),
                f"{names[i]} and {names[j]} give the same vote on {agreement[i, j]:.1%} of the"
                f" {together[i, j]:,} samples that both vote on: the label model takes them for independent"
                " and counts one opinion twice; leave one out",
            )
