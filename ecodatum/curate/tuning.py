"""Tuning: what a choice of a recipe's values is worth, on a sample of the pool and on labelled samples."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from ecodatum.curate.diagnostics import Doubt, diagnose
from ecodatum.curate.histogram import Histogram
from ecodatum.curate.knobs import Choice, Knob, place
from ecodatum.curate.label_model import Fitted, fit, predict_proba
from ecodatum.curate.recipe import LabellingFunction, Recipe, Top
from ecodatum.curate.samples import Sample
from ecodatum.curate.scores import as_numbers
from ecodatum.curate.selection import Ranked, find_cut
from ecodatum.curate.voting import (
    ABSTAIN,
    REJECT,
    SELECT,
    Columns,
    Mask,
    passes,
    unpack,
    vote,
)
from ecodatum.pool.uids import UID
from ecodatum.validation import explain

#: What counts as predicted good in F1 (`Bench.measure`).
F1At = Literal["cut", "half"]


@dataclass(frozen=True)
class Alphas:
    """The weights of the composite metric (Eq. 3). The paper's are not published; these are ours."""

    f1: float = 1.0
    overlap: float = 0.1
    conflict: float = 0.1
    coverage: float = 0.1


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
    f1_at: F1At = "cut"
    _memory: dict[tuple[int, int, Choice], npt.NDArray[np.uint64]] = field(init=False, default_factory=dict)

    @property
    def start(self) -> Choice:
        """The recipe's own values."""
        return tuple(knob.start for knob in self.knobs)

    def measure(self, choice: Choice, labelled: Labelled) -> Measure:
        """Vote, fit on the pool's sample, and measure; raises ConfigError for a fit that diverges.

        A labelled sample is predicted good if it passes the rules, and (`f1_at`) lies above the `cut` through
        the pool's sample that the recipe's `keep` makes, or `half`: P(SELECT) > 0.5, as Snorkel's `predict`
        has it. The paper doesn't say which it takes. With `half` a search may find thresholds that
        separate good from bad better, and yet a worse top.
        """
        count = len(self.recipe.labelling_functions)
        histogram, fitted = self._fitted(choice)
        votes = unpack(histogram.patterns, count)
        cast = (votes != ABSTAIN).sum(axis=1)
        differ = (votes == SELECT).any(axis=1) & (votes == REJECT).any(axis=1)
        shares = [
            float(histogram.counts[rows].sum() / histogram.total) for rows in (cast > 1, differ, cast > 0)
        ]
        own = self._patterns(choice, labelled.columns)
        chosen = predict_proba(fitted.mu, unpack(own, count)) > 0.5
        if self.f1_at == "cut":
            chosen = self._above_cut(choice, own, labelled, histogram, fitted)
        chosen &= passes(self.sample.recipe.rules, labelled.columns, len(labelled.good))
        right = int((chosen & labelled.good).sum())
        precision = right / max(int(chosen.sum()), 1)
        recall = right / max(int(labelled.good.sum()), 1)
        f1 = 2 * right / max(int(chosen.sum() + labelled.good.sum()), 1)
        a, (overlap, conflict, coverage) = self.alphas, shares
        objective = a.f1 * f1 + a.overlap * overlap - a.conflict * conflict + a.coverage * coverage
        return Measure(objective, f1, precision, recall, overlap, conflict, coverage)

    def _above_cut(
        self,
        choice: Choice,
        own: npt.NDArray[np.uint64],
        labelled: Labelled,
        histogram: Histogram,
        fitted: Fitted,
    ) -> Mask:
        """Return which labelled samples, `own` their patterns, lie above the cut of the recipe's `keep`.

        A pattern that the pool's sample does not have counts by its P(SELECT). In file order, all samples of
        the probability at the cut lie above it.
        """
        candidates = self.sample.candidates
        patterns = self._patterns(choice, self.sample.columns)[candidates]
        ranked = Ranked(np.empty(0, UID), patterns, self._ties(self.sample.columns)[candidates])
        size = self.sample.size_to_keep(histogram.total)
        cut = find_cut(histogram.patterns, histogram.counts, fitted.probabilities, size, lambda: [ranked])
        probabilities = predict_proba(fitted.mu, unpack(own, len(self.recipe.labelling_functions)))
        unseen = ~np.isin(own, histogram.patterns) & (probabilities > cut.probability)
        level = np.isin(own, cut.through) & (self._ties(labelled.columns) >= cut.tie_score)
        above: Mask = np.isin(own, cut.above) | level | unseen
        return above

    def _ties(self, columns: Columns) -> npt.NDArray[np.floating]:
        """Return the scores that order samples of one probability, (n,); null is lowest."""
        keep = self.recipe.keep
        if keep is None or keep.tie_score is None:
            return np.zeros(len(next(iter(columns.values()))), np.float32)
        values: npt.NDArray[np.floating] = as_numbers(columns[keep.tie_score])
        return np.where(np.isnan(values), values.dtype.type(-np.inf), values)

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
            place(document["labelling_functions"][knob.function], knob.key, plain)
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
            for index, knob in zip(own, (k for k in self.knobs if k.function == position), strict=True):
                place(document, knob.key, knob.numbers[index])
            function = LabellingFunction.model_validate(document)
            votes = vote(function, columns, len(next(iter(columns.values()))))
            self._memory[key] = (votes + 1).astype(np.uint64) * np.uint64(3**position)
        return self._memory[key]
