"""Calibration: turns thresholds given as a share of the pool into numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecodatum.curate.order_statistics import top_threshold
from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Top
from ecodatum.curate.scores import PartScores, as_numbers

#: The number for each (score, share) that a recipe names.
Thresholds = Mapping[tuple[str, float], float]


def calibrate(recipe: Recipe, parts: Sequence[PartScores]) -> dict[tuple[str, float], float]:
    """Return the threshold of each share that the recipe names, over all parts of the pool.

    The value is exact, and memory stays at a column of one part.
    """
    return {(score, share): top_threshold(_chunks(parts, score), share) for score, share in recipe.tops()}


def _chunks(parts: Sequence[PartScores], score: str) -> Any:
    def chunks() -> Iterator[npt.NDArray[np.floating]]:
        for part in parts:
            yield as_numbers(part.column(score))

    return chunks


def calibrated(recipe: Recipe, thresholds: Thresholds) -> Recipe:
    """Return the recipe with every share replaced by its number."""
    return recipe.model_copy(
        update={
            "rules": tuple(_fixed(rule, thresholds) for rule in recipe.rules),
            "labelling_functions": tuple(
                _fixed_function(function, thresholds) for function in recipe.labelling_functions
            ),
        }
    )


def _fixed(condition: Condition, thresholds: Thresholds) -> Condition:
    numbers = {
        name: thresholds[condition.score, bound.top]
        for name, bound in condition.bounds()
        if isinstance(bound, Top)
    }
    return condition.model_copy(update=numbers)


def _fixed_function(function: LabellingFunction, thresholds: Thresholds) -> LabellingFunction:
    lists = {
        name: tuple(_fixed(condition, thresholds) for condition in getattr(function, name))
        for name in ("select", "reject", "reject_unless")
    }
    boundary = function.boundary
    if isinstance(boundary, Top) and function.score:
        boundary = thresholds[function.score, boundary.top]
    return function.model_copy(update={**lists, "boundary": boundary})
