"""Recipes: filters as data. Operators give scores; rules or labelling functions turn them into a subset."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AliasChoices,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from ecodatum.content import find, read_yaml
from ecodatum.curate.deduplication_steps import Step
from ecodatum.curate.schema import ROW_NAME, Fraction, Model, ScoreName
from ecodatum.errors import ConfigError
from ecodatum.validation import explain


class Top(Model):
    """The threshold that a share of the pool reaches: the value at index int(n·top) of the n scores
    sorted downwards, nulls last (DataComp's rule for a fraction, baselines/apply_filter.py).

    `of: passing` takes the share of the samples that pass the rules above, in a labelling function of
    those that pass all rules.
    """

    top: Fraction
    of: Literal["pool", "passing"] = "pool"


class Share(NamedTuple):
    """A threshold to be found: the value of a score that the best `top` reach.

    after: the number of rules, from the first, that the samples have passed which it is a share of; 0
    for the whole pool.
    """

    score: str
    top: float
    after: int


def _threshold(value: Any) -> float | Top:
    """Take a number or a mapping with `top`; one message for both instead of one for each branch."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Top):
        return value
    if isinstance(value, dict):
        return Top.model_validate(value)
    raise ValueError("should be a number, or {top: share of the pool}")


def _plain(value: float | Top) -> float | dict[str, Any]:
    return value.model_dump(exclude_defaults=True) if isinstance(value, Top) else value


Threshold = Annotated[
    float | Top,
    PlainValidator(_threshold, json_schema_input_type=float | Top),
    PlainSerializer(_plain),
]


class Condition(Model):
    """A test of one score column; all comparisons that are given must hold. A null score fails it."""

    score: ScoreName
    at_least: Threshold | None = None
    above: Threshold | None = None
    at_most: Threshold | None = None
    below: Threshold | None = None
    equals: str | bool | None = Field(
        None, validation_alias=AliasChoices("is", "equals"), serialization_alias="is"
    )

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if not any(True for _ in self.bounds()) and self.equals is None:
            raise ValueError("needs a comparison: at_least, above, at_most, below or is")
        return self

    def bounds(self) -> Iterator[tuple[str, Threshold]]:
        """Yield the numeric comparisons as (name, threshold)."""
        for name in ("at_least", "above", "at_most", "below"):
            value = getattr(self, name)
            if value is not None:
                yield name, value


class LabellingFunction(Model):
    """Scores to SELECT (1), REJECT (0) or ABSTAIN (-1).

    Either a score with `boundary` b and `margin` β (EcoDatum, Eq. 2: SELECT at s >= b + β, REJECT at
    s <= b − β), or lists of conditions. A null in any column that it reads makes it abstain.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    score: ScoreName | None = None
    boundary: Threshold | None = None
    margin: Annotated[float, Field(ge=0)] = 0.0
    select: tuple[Condition, ...] = Field((), strict=False)
    reject: tuple[Condition, ...] = Field((), strict=False)
    reject_unless: tuple[Condition, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.score is None) != (self.boundary is None):
            raise ValueError("score and boundary go together")
        listed = bool(self.select or self.reject or self.reject_unless)
        if listed == (self.score is not None):
            raise ValueError("needs either score with boundary, or select, reject or reject_unless")
        if self.margin and self.score is None:
            raise ValueError("margin goes with a boundary")
        return self

    def conditions(self) -> Iterator[Condition]:
        """Yield every listed condition."""
        yield from (*self.select, *self.reject, *self.reject_unless)


class LabelModelSettings(Model):
    """Snorkel's training settings; the defaults are EcoDatum's (examples/config/demo.yaml)."""

    epochs: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    l2: Annotated[float, Field(ge=0)] = 0.001
    seed: int = 123


#: What makes a ranking of the votes or scores: Snorkel's label model, or what it is compared with.
Combination = Literal["label_model", "majority_vote", "random_weights", "mean_score"]

#: What breaks ties besides a score: chance, by the uid alone, or the order of the pool's files.
BY_UID, FILE_ORDER = "uid", "file_order"


class Keep(Model):
    """How many of the ranked samples stay, and what ranks samples whose P(SELECT) is the same.

    `probability` keeps all that reach this P(SELECT), however many. `tie_break` is a score (higher first,
    then by uid), `uid`, or `file_order`, as the released EcoDatum does.
    """

    top: Fraction | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    tie_break: Annotated[str, Field(pattern=r"^(uid|file_order|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$")] = BY_UID

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.top, self.count, self.probability)) != 1:
            raise ValueError("needs one of top (a share of the candidates), count and probability")
        return self

    @property
    def tie_score(self) -> str | None:
        """The score that breaks ties, if one does."""
        return None if self.tie_break in {BY_UID, FILE_ORDER} else self.tie_break


class Recipe(Model):
    """A filter. With `rules` alone it keeps what passes them all; with labelling functions it keeps
    the candidates (what passes the rules) that the label model ranks highest. What `deduplicate`
    removes from the pool is no candidate. `combine` puts something else in the label model's place:
    `majority_vote` and `random_weights` over the votes (see combination.py), `mean_score` over the scores
    that the functions read (see mean_score.py).
    """

    name: Annotated[str, Field(pattern=ROW_NAME)]
    title: str
    source: str
    description: str = ""
    operators: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], dict[str, Any]] = Field({})
    deduplicate: tuple[Step, ...] = Field((), strict=False)
    rules: tuple[Condition, ...] = Field((), strict=False)
    labelling_functions: tuple[LabellingFunction, ...] = Field((), strict=False)
    combine: Combination = "label_model"
    label_model: LabelModelSettings = LabelModelSettings()
    keep: Keep | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.labelling_functions) != (self.keep is not None):
            raise ValueError("labelling_functions and keep go together")
        if 0 < len(self.labelling_functions) < self.fewest_functions:
            raise ValueError(
                "a label model needs at least three labelling functions"
                " (combine: majority_vote, random_weights or mean_score takes fewer)"
            )
        if self.combine == "mean_score" and self.keep is not None and self.keep.probability is not None:
            raise ValueError("combine: mean_score gives no probability: keep top or count")
        for what, items in (("labelling functions", self.labelling_functions), ("steps", self.deduplicate)):
            if len({item.name for item in items}) < len(items):
                raise ValueError(f"two {what} have the same name")
        read = (*self.scores(), *self.deduplication_scores())
        unknown = {s for s in read if s.partition(".")[0] not in self.operators}
        if unknown:
            raise ValueError(f"no operator gives {', '.join(sorted(unknown))}: add it under operators")
        return self

    @property
    def fewest_functions(self) -> int:
        """How many labelling functions it takes to combine them."""
        return 3 if self.combine == "label_model" else 1

    def scores(self) -> tuple[str, ...]:
        """Name every score column that the recipe reads after deduplication, each once."""
        names = [c.score for c in self._conditions()]
        names += [f.score for f in self.labelling_functions if f.score]
        if self.keep and self.keep.tie_score:
            names.append(self.keep.tie_score)
        return tuple(dict.fromkeys(names))

    def deduplication_scores(self) -> tuple[str, ...]:
        """Name every score column that deduplication reads, each once."""
        return tuple(dict.fromkeys(name for step in self.deduplicate for name in step.scores()))

    def tops(self) -> tuple[Share, ...]:
        """List the thresholds that are given as a share, each once and after those that it depends on."""
        found = [(c.score, b, i) for i, c in enumerate(self.rules) for _, b in c.bounds()]
        for function in self.labelling_functions:
            found += [(c.score, b, len(self.rules)) for c in function.conditions() for _, b in c.bounds()]
            if function.score and function.boundary is not None:
                found.append((function.score, function.boundary, len(self.rules)))
        shares = [share_of(score, bound, i) for score, bound, i in found if isinstance(bound, Top)]
        return tuple(dict.fromkeys(sorted(shares, key=lambda share: share.after)))

    def _conditions(self) -> Iterator[Condition]:
        yield from self.rules
        for function in self.labelling_functions:
            yield from function.conditions()


def share_of(score: str, bound: Top, rules: int) -> Share:
    """Return the share that a threshold below the first `rules` rules stands for."""
    return Share(score, bound.top, rules if bound.of == "passing" else 0)


def load_recipe(
    name: str, *, beside: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Read the recipe that `name` (a path, or a name in baselines/) stands for.

    overrides: values by dotted key (`keep.top`, `rules.0.at_least`), as `--set` gives them. Paths in
    operators' parameters are made absolute when such a file lies beside the recipe or in `beside`.
    Raises ConfigError that names the file, the key and what is allowed.
    """
    path = find(name, "baselines", beside=beside)
    document = read_yaml(path)
    for key, value in (overrides or {}).items():
        _set(document, key, deepcopy(value), path)  # later keys may change it
    operators = document.get("operators")
    if isinstance(operators, dict):
        folders = [path.parent, *([beside] if beside else [])]
        document["operators"] = {key: _absolute(value, folders) for key, value in operators.items()}
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise explain(error, path, Recipe) from None


def _set(document: dict[str, Any], key: str, value: Any, path: Path) -> None:
    """Set one dotted key in place; a number in it indexes a list, a name an entry with that name."""
    *parents, last = key.split(".")
    place: Any = document
    for step in parents:
        place = _step(place, step, key, path)
    if isinstance(place, list):
        place[_index(place, last, key, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigError(f"cannot set {key}: {'.'.join(parents)} is a single value", where=path)


def _step(place: Any, step: str, key: str, path: Path) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, key, path)]
    if isinstance(place, dict):
        return place.setdefault(step, {})
    raise ConfigError(f"cannot set {key}: there is nothing below {step}", where=path)


def _index(items: list[Any], step: str, key: str, path: Path) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if step in names:
        return names.index(step)
    if step.isdigit() and int(step) < len(items):
        return int(step)
    known = ", ".join(str(n) for n in names if n) or f"0 to {len(items) - 1}"
    raise ConfigError(f"cannot set {key}: no item {step}", where=path, todo=f"there are: {known}")


def _absolute(parameters: Any, folders: Sequence[Path]) -> Any:
    """Make absolute what names a file in one of the folders: a recipe's own, then its user's."""
    if not isinstance(parameters, dict):
        return parameters or {}
    return {key: _absolute_path(value, folders) for key, value in parameters.items()}


def _absolute_path(value: Any, folders: Sequence[Path]) -> Any:
    if not isinstance(value, str) or not value:
        return value
    return next((str(folder / value) for folder in folders if (folder / value).is_file()), value)
