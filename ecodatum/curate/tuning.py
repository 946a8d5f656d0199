"""Tuning: the values of a recipe that a search may change, and what a choice of them is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from ecodatum.curate.calibration import calibrate, calibrated
from ecodatum.curate.diagnostics import Doubt, diagnose
from ecodatum.curate.histogram import Histogram
from ecodatum.curate.label_model import Fitted, fit, predict_proba
from ecodatum.curate.order_statistics import top_threshold
from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Threshold, Top
from ecodatum.curate.scores import PartScores, as_numbers
from ecodatum.curate.voting import (
    ABSTAIN,
    REJECT,
    SELECT,
    Columns,
    Mask,
    load_columns,
    passes,
    unpack,
    vote,
)
from ecodatum.errors import ConfigError
from ecodatum.validation import explain

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
class Alphas:
    """The weights of the composite metric (Eq. 3). The paper's are not published; these are ours."""

    f1: float = 1.0
    overlap: float = 0.1
    conflict: float = 0.1
    coverage: float = 0.1


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


@dataclass(frozen=True)
class Measure:
    """What a choice is worth: the composite metric M and its terms; precision and recall behind F1."""

    objective: float
    f1: float
    precision: float
    recall: float
    overlap: float
    conflict: float
    coverage: float


@dataclass(frozen=True)
class Labelled:
    """Labelled samples: their score columns, each (n,), and which are good, (n,) bool."""

    columns: Columns
    good: npt.NDArray[np.bool_]

    def take(self, rows: Mask) -> "Labelled":
        """Return the samples where `rows`, (n,) bool, holds."""
        return Labelled({k: v.filter(pa.array(rows)) for k, v in self.columns.items()}, self.good[rows])


@dataclass(frozen=True)
class Sample:
    """A sample of the pool: its score columns, each (n,), and which rows pass the recipe's rules, (n,) bool.

    recipe: the recipe with each share replaced by its number in this sample.
    """

    recipe: Recipe
    columns: Columns
    candidates: Mask

    def number(self, score: str, top: Top) -> float:
        """Return the score that a share of the sample reaches."""
        values = as_numbers(self.columns[score])
        chosen = values[self.candidates] if top.of == "passing" else values
        return top_threshold(lambda: [chosen], top.top)


def open_sample(recipe: Recipe, scores: PartScores) -> Sample:
    """Load the scores that a recipe reads; raises ConfigError where no row passes its rules."""
    columns = load_columns(scores, recipe.scores())
    fixed = calibrated(recipe, calibrate(recipe, [scores]))
    candidates = passes(fixed.rules, columns, scores.rows)
    if not candidates.any():
        raise ConfigError("no sample of the pool passes the recipe's rules", where=recipe.name)
    return Sample(fixed, columns, candidates)


@dataclass
class Bench:
    """Measures choices on a sample of the pool's scores and on labelled samples, all in memory.

    The votes of a labelling function are kept by its values, so that a trial adds up columns, counts
    patterns, and fits.
    """

    recipe: Recipe
    sample: Sample
    knobs: tuple[Knob, ...]
    alphas: Alphas
    _memory: dict[tuple[int, int, Choice], npt.NDArray[np.uint64]] = field(init=False, default_factory=dict)

    @property
    def start(self) -> Choice:
        """The recipe's own values."""
        return tuple(knob.start for knob in self.knobs)

    def measure(self, choice: Choice, labelled: Labelled) -> Measure:
        """Vote, fit on the pool's sample, and measure; raises ConfigError for a fit that diverges.

        Predicted good: passes the rules, and P(SELECT) > 0.5, which is what Snorkel's `predict` gives.
        """
        count = len(self.recipe.labelling_functions)
        histogram, fitted = self._fitted(choice)
        votes = unpack(histogram.patterns, count)
        cast = (votes != ABSTAIN).sum(axis=1)
        differ = (votes == SELECT).any(axis=1) & (votes == REJECT).any(axis=1)
        shares = [
            float(histogram.counts[rows].sum() / histogram.total) for rows in (cast > 1, differ, cast > 0)
        ]
        chosen = predict_proba(fitted.mu, unpack(self._patterns(choice, labelled.columns), count)) > 0.5
        chosen &= passes(self.sample.recipe.rules, labelled.columns, len(labelled.good))
        right = int((chosen & labelled.good).sum())
        precision = right / max(int(chosen.sum()), 1)
        recall = right / max(int(labelled.good.sum()), 1)
        f1 = 2 * right / max(int(chosen.sum() + labelled.good.sum()), 1)
        a, (overlap, conflict, coverage) = self.alphas, shares
        objective = a.f1 * f1 + a.overlap * overlap - a.conflict * conflict + a.coverage * coverage
        return Measure(objective, f1, precision, recall, overlap, conflict, coverage)

    def doubts(self, choice: Choice) -> tuple[Doubt, ...]:
        """Return what is doubtful about the label model of a choice."""
        histogram, fitted = self._fitted(choice)
        return diagnose(histogram, self.recipe.labelling_functions, fitted).doubts

    def _fitted(self, choice: Choice) -> tuple[Histogram, Fitted]:
        histogram = Histogram.of(self._patterns(choice, self.sample.columns)[self.sample.candidates])
        return histogram, fit(histogram, len(self.recipe.labelling_functions), self.recipe.label_model)

    def canonical(self, choice: Choice) -> Choice:
        """Return the choice with each function's REJECT region below its SELECT region.

        A rejecting bound above the selecting one would change nothing between the two: SELECT wins there.
        """
        found = list(choice)
        for low, high in self._pairs:
            while self.knobs[low].numbers[found[low]] > self.knobs[high].numbers[found[high]] and found[low]:
                found[low] -= 1
        return tuple(found)

    @property
    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the positions of knobs that bound REJECT from above and SELECT from below, on one score."""
        for low, high in np.ndindex(len(self.knobs), len(self.knobs)):
            reject, select = self.knobs[low], self.knobs[high]
            if reject.function != select.function or reject.key[0] != "reject" or select.key[0] != "select":
                continue
            function = self.recipe.labelling_functions[reject.function]
            scores = [getattr(function, str(k.key[0]))[k.key[1]].score for k in (reject, select)]
            bounds = reject.key[2] in {"at_most", "below"} and select.key[2] in {"at_least", "above"}
            if scores[0] == scores[1] and bounds:
                yield low, high

    def tuned(self, choice: Choice, **changes: Any) -> Recipe:
        """Return the recipe with the choice's values, as it is written; `changes` replace its fields."""
        document = self.recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for knob, position in zip(self.knobs, choice, strict=True):
            value = knob.values[position]
            plain = value.model_dump(exclude_defaults=True) if isinstance(value, Top) else value
            _place(document["labelling_functions"][knob.function], knob.key, plain)
        try:
            return Recipe.model_validate({**document, **changes})
        except ValidationError as error:
            raise explain(error, self.recipe.name, Recipe) from None

    def _patterns(self, choice: Choice, columns: Columns) -> npt.NDArray[np.uint64]:
        patterns = np.zeros(len(next(iter(columns.values()))), np.uint64)
        for position in range(len(self.recipe.labelling_functions)):
            own = tuple(c for c, knob in zip(choice, self.knobs, strict=True) if knob.function == position)
            patterns += self._votes(position, own, columns)
        return patterns

    def _votes(self, position: int, own: Choice, columns: Columns) -> npt.NDArray[np.uint64]:
        """Return what a function adds to the rows' patterns with the given values of its own."""
        key = (id(columns), position, own)
        if key not in self._memory:
            document = self.sample.recipe.labelling_functions[position].model_dump(mode="json", by_alias=True)
            for place, knob in zip(own, (k for k in self.knobs if k.function == position), strict=True):
                _place(document, knob.key, knob.numbers[place])
            function = LabellingFunction.model_validate(document)
            votes = vote(function, columns, len(next(iter(columns.values()))))
            self._memory[key] = (votes + 1).astype(np.uint64) * np.uint64(3**position)
        return self._memory[key]


def find_knobs(
    recipe: Recipe, sample: Sample, candidates: Candidates, functions: Sequence[str] = ()
) -> tuple[Knob, ...]:
    """Return what can be tuned in a recipe: every threshold and margin of its labelling functions.

    functions: the names of those to tune; all, if empty.
    Raises ConfigError for an unknown name, or where there is nothing to tune.
    """
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


def _place(document: dict[str, Any], key: tuple[str | int, ...], value: Any) -> None:
    """Set the value at a key of a nested document in place."""
    place: Any = document
    for step in key[:-1]:
        place = place[step]
    place[key[-1]] = value
