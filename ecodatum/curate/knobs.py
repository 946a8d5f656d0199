"""Knobs: the values of a recipe that a search may change, and the candidates for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Threshold, Top
from ecodatum.curate.samples import Sample
from ecodatum.errors import ConfigError

#: A choice: for each knob the position of its value among the candidates.
Choice = tuple[int, ...]

_LISTS: Final = ("select", "reject", "reject_unless")


@dataclass(frozen=True)
class Candidates:
    """Where candidate values come from, by the pool's own scores.

    top: shares K; a boundary's candidates are the scores that such a share of the pool reaches (the
    paper's Algorithm 1 and Table 6). tails: for functions that only reject, the share of the pool that a
    candidate would reject: faults are rare, and the paper's coverages of 0.003 to 0.014 (Table 5) lie far
    outside its K. margins: β as shares of the score's interquartile range.
    The recipe's own value is always a candidate besides.
    """

    top: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    tails: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    margins: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Knob:
    """One value of a recipe that a search may change.

    function: the position of its labelling function; key: the place in it, such as `boundary` or
    `select.0.at_least`. values: the candidates as the recipe writes them, ascending by `numbers`, the same as
    numbers. start: the position of the recipe's own value.
    """

    name: str
    function: int
    key: tuple[str | int, ...]
    values: tuple[Threshold, ...]
    numbers: tuple[float, ...]
    start: int


def find_knobs(
    recipe: Recipe, sample: Sample, candidates: Candidates, functions: Sequence[str] = ()
) -> tuple[Knob, ...]:
    """Return what can be tuned in a recipe: every threshold and margin of its labelling functions.

    functions: the names of those to tune; all, if empty.
    Raises ConfigError for an unknown name, where there is nothing to tune, or no label model over a share.
    """
    if recipe.combine != "label_model" or (recipe.keep and recipe.keep.probability is not None):
        raise ConfigError(
            "a search tunes recipes that combine by label_model and keep top or count", where=recipe.name
        )
    names = [function.name for function in recipe.labelling_functions]
    unknown = [name for name in functions if name not in names]
    if unknown:
        raise ConfigError(
            f"no labelling function {unknown[0]!r}", where=recipe.name, todo=f"it has: {', '.join(names)}"
        )
    knobs = [
        knob
        for position, function in enumerate(recipe.labelling_functions)
        if not functions or function.name in functions
        for knob in _knobs_of(position, function, sample, candidates)
        if len(knob.values) > 1
    ]
    if not knobs:
        raise ConfigError("there is no threshold to tune in these labelling functions", where=recipe.name)
    return tuple(knobs)


def _knobs_of(
    position: int, function: LabellingFunction, sample: Sample, candidates: Candidates
) -> Iterator[Knob]:
    if function.score is not None and function.boundary is not None:
        yield _knob(
            position, function, ("boundary",), function.score, function.boundary, candidates.top, sample
        )
        yield _margin_knob(position, function, function.score, sample, candidates.margins)
        return
    for name in _LISTS:
        conditions: tuple[Condition, ...] = getattr(function, name)
        for index, condition in enumerate(conditions):
            for bound, value in condition.bounds():
                key = (name, index, bound)
                shares = _shares(function, name, bound, candidates)
                yield _knob(position, function, key, condition.score, value, shares, sample)


def _shares(function: LabellingFunction, name: str, bound: str, candidates: Candidates) -> tuple[float, ...]:
    """Return the shares of the pool that reach a bound's candidates."""
    if function.select:
        return candidates.top
    rejects_low = (bound in {"at_most", "below"}) == (name == "reject")
    return tuple(1 - tail for tail in candidates.tails) if rejects_low else candidates.tails


def _knob(
    position: int,
    function: LabellingFunction,
    key: tuple[str | int, ...],
    score: str,
    own: Threshold,
    shares: Sequence[float],
    sample: Sample,
) -> Knob:
    values: list[Threshold] = [own]
    if isinstance(own, Top):
        values += [Top(top=share, of=own.of) for share in shares if share != own.top]
    else:
        values += [_rounded(sample.number(score, Top(top=share))) for share in shares]
    numbers = [sample.number(score, v) if isinstance(v, Top) else v for v in values]
    return _ascending(position, function, key, values, numbers)


def _margin_knob(
    position: int, function: LabellingFunction, score: str, sample: Sample, margins: Sequence[float]
) -> Knob:
    low, high = (sample.number(score, Top(top=share)) for share in (0.75, 0.25))
    width = high - low if np.isfinite(high - low) else 0.0
    numbers = [function.margin, *(_rounded(width * share) for share in margins)]
    return _ascending(position, function, ("margin",), numbers, numbers)


def _ascending(
    position: int,
    function: LabellingFunction,
    key: tuple[str | int, ...],
    values: Sequence[Threshold],
    numbers: Sequence[float],
) -> Knob:
    """Order the candidates, each number once, infinite ones left out; the first is the recipe's own."""
    distinct, first = np.unique(np.array(numbers, np.float64), return_index=True)
    kept = [int(i) for number, i in zip(distinct, first, strict=True) if np.isfinite(number) or i == 0]
    name = ".".join([function.name, *map(str, key)])
    chosen = tuple(values[i] for i in kept)
    return Knob(name, position, key, chosen, tuple(float(numbers[i]) for i in kept), kept.index(0))


def _rounded(number: float) -> float:
    """Keep as many digits as a float32 score has, so that the written recipe can be read."""
    return float(f"{number:.7g}")


def place(document: dict[str, Any], key: tuple[str | int, ...], value: Any) -> None:
    """Set the value at a key of a nested document in place."""
    place: Any = document
    for step in key[:-1]:
        place = place[step]
    place[key[-1]] = value
