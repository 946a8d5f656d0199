"""Where thresholds divide a score: what a rule keeps, and what a labelling function selects or rejects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Top

Effect = Literal["keep", "select", "reject"]

_SIGNS: Final = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<", "is": "is", "is not": "is not"}
_CONTRARY: Final = {
    "at_least": "below",
    "above": "at_most",
    "at_most": "above",
    "below": "at_least",
    "is": "is not",
}


@dataclass(frozen=True)
class Zone:
    """The scores that compare with `value` in one way, and what becomes of samples there.

    function: the labelling function whose zone it is; empty for a rule.
    """

    score: str
    comparison: str
    value: float | str | bool
    effect: Effect
    function: str = ""

    @property
    def words(self) -> str:
        """The comparison, as in `≥ 0.22`."""
        shown = number(self.value) if isinstance(self.value, float) else str(self.value).lower()
        return f"{_SIGNS[self.comparison]} {shown}"


def number(value: float) -> str:
    """Return a threshold with four significant digits."""
    return f"{value:.4g}".replace("-", "−")


def zones(recipe: Recipe) -> tuple[Zone, ...]:
    """Return the zones of a recipe in its order; a threshold that is not calibrated yet gives none."""
    rules = [zone for rule in recipe.rules for zone in _of_condition(rule, "keep")]
    votes = [zone for function in recipe.labelling_functions for zone in _of_function(function)]
    return (*rules, *votes)


def _of_function(function: LabellingFunction) -> Iterator[Zone]:
    name, boundary = function.name, function.boundary
    if function.score and isinstance(boundary, float):
        yield Zone(function.score, "at_most", boundary - function.margin, "reject", name)
        yield Zone(function.score, "at_least", boundary + function.margin, "select", name)
    for condition in function.reject:
        yield from _of_condition(condition, "reject", name)
    for condition in function.reject_unless:
        for zone in _of_condition(condition, "reject", name):
            yield Zone(zone.score, _CONTRARY[zone.comparison], zone.value, "reject", name)
    for condition in function.select:
        yield from _of_condition(condition, "select", name)


def _of_condition(condition: Condition, effect: Effect, function: str = "") -> Iterator[Zone]:
    for comparison, value in condition.bounds():
        if not isinstance(value, Top):
            yield Zone(condition.score, comparison, value, effect, function)
    if condition.equals is not None:
        yield Zone(condition.score, "is", condition.equals, effect, function)
