"""Calibration: turns thresholds given as a share of the pool into numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ecodatum.curate.order_statistics import Chunks, top_threshold
from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Share, Top, share_of
from ecodatum.curate.scores import PartScores, as_numbers
from ecodatum.curate.voting import load_columns, passes

#: The number for each share that a recipe names.
Thresholds = Mapping[Share, float]


def calibrate(recipe: Recipe, parts: Sequence[PartScores]) -> dict[Share, float]:
    """Return the threshold of each share that the recipe names, over all parts of the pool.

    The value is exact, and memory stays at a few columns of one part.
    """
    found: dict[Share, float] = {}
    for share in recipe.tops():
        above = tuple(_fixed(rule, i, found) for i, rule in enumerate(recipe.rules[: share.after]))
        found[share] = top_threshold(_chunks(parts, share.score, above), share.top)
    return found


def _chunks(parts: Sequence[PartScores], score: str, rules: Sequence[Condition]) -> Chunks:
    """Give the scores, part by part, of the samples that pass the rules."""

    def chunks() -> Iterator[npt.NDArray[np.floating]]:
        for part in parts:
            columns = load_columns(part, [score, *(rule.score for rule in rules)])
            yield as_numbers(columns[score])[passes(rules, columns, part.rows)]

    return chunks


def calibrated(recipe: Recipe, thresholds: Thresholds) -> Recipe:
    """Return the recipe with every share replaced by its number."""
    rules = len(recipe.rules)
    return recipe.model_copy(
        update={
            "rules": tuple(_fixed(rule, i, thresholds) for i, rule in enumerate(recipe.rules)),
            "labelling_functions": tuple(
                _fixed_function(function, rules, thresholds) for function in recipe.labelling_functions
            ),
        }
    )


def _fixed(condition: Condition, rules: int, thresholds: Thresholds) -> Condition:
    """Replace the shares of a condition that has `rules` rules above it."""
    numbers = {
        name: thresholds[share_of(condition.score, bound, rules)]
        for name, bound in condition.bounds()
        if isinstance(bound, Top)
    }
    return condition.model_copy(update=numbers)


def _fixed_function(function: LabellingFunction, rules: int, thresholds: Thresholds) -> LabellingFunction:
    lists = {
        name: tuple(_fixed(condition, rules, thresholds) for condition in getattr(function, name))
        for name in ("select", "reject", "reject_unless")
    }
    boundary = function.boundary
    if isinstance(boundary, Top) and function.score:
        boundary = thresholds[share_of(function.score, boundary, rules)]
    return function.model_copy(update={**lists, "boundary": boundary})
