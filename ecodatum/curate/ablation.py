"""Ablation: recipes that are an ensemble with parts taken out, or put in one after another."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import PlainValidator, ValidationError, model_validator

from ecodatum.curate.recipe import BY_UID, LabellingFunction, Recipe
from ecodatum.curate.schema import ROW_NAME, Model
from ecodatum.errors import ConfigError
from ecodatum.validation import explain

#: The rows of an ablation: the parts that each is about, by its name; None for each part alone.
Groups = Mapping[str, tuple[str, ...]] | None


def _groups(value: Any) -> Groups:
    """Take `each`, a list of parts, or a mapping of rows' names to one or several parts."""
    if value == "each":
        return None
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return {part: (part,) for part in value}
    if isinstance(value, dict) and value:
        found = {str(row): (parts,) if isinstance(parts, str) else parts for row, parts in value.items()}
        if all(
            re.match(ROW_NAME, row)
            and isinstance(parts, list | tuple)
            and parts
            and all(isinstance(part, str) for part in parts)
            for row, parts in found.items()
        ):
            return {row: tuple(parts) for row, parts in found.items()}
    raise ValueError("should be each, a list of names, or {row's name: names}")


_Rows = Annotated[
    Groups,
    PlainValidator(_groups, json_schema_input_type=Literal["each"] | list[str] | dict[str, str | list[str]]),
]


class Ablation(Model):
    """What is taken out (`drop`), left alone (`only`), or put in one after another (`add`), a row each.

    of: whether the names are those of labelling functions or of operators; with an operator go all
    functions that read it.
    """

    drop: _Rows = None
    only: _Rows = None
    add: _Rows = None
    of: Literal["labelling_functions", "operators"] = "labelling_functions"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(self.model_fields_set & {"drop", "only", "add"}) != 1:
            raise ValueError("needs one of drop, only and add")
        return self


class Ablated(NamedTuple):
    """A row of an ablation: what was done (`without`, `only`, `up_to`), to what, and what is left."""

    how: str
    what: str
    recipe: Recipe


def ablate(recipe: Recipe, ablation: Ablation) -> Iterator[Ablated]:
    """Yield the rows of an ablation, in the order of the recipe or of the names given.

    `add` begins with the first row that has as many functions as the recipe's combination needs, three for
    a label model. Raises ConfigError for an unknown name, and for a row with too few functions.
    """
    belongs = {
        f.name: {f.name} if ablation.of == "labelling_functions" else _operators(f)
        for f in recipe.labelling_functions
    }
    known = [part for part in _order(recipe, ablation) if any(part in owners for owners in belongs.values())]
    if not known:
        raise ConfigError("no labelling functions to ablate", where=recipe.name)
    if "drop" in ablation.model_fields_set:
        for row, parts in _named(ablation.drop, known, "drop", recipe).items():
            kept = [name for name, owners in belongs.items() if not owners & set(parts)]
            yield Ablated("without", row, keeping(recipe, kept, f"drop {row}"))
    elif "only" in ablation.model_fields_set:
        for row, parts in _named(ablation.only, known, "only", recipe).items():
            kept = [name for name, owners in belongs.items() if owners <= set(parts)]
            yield Ablated("only", row, keeping(recipe, kept, f"only {row}"))
    else:
        yield from _added(recipe, belongs, _named(ablation.add, known, "add", recipe))


def _added(
    recipe: Recipe, belongs: Mapping[str, set[str]], rows: Mapping[str, tuple[str, ...]]
) -> Iterator[Ablated]:
    together: set[str] = set()
    before: list[str] = []
    for row, parts in rows.items():
        together |= set(parts)
        kept = [name for name, owners in belongs.items() if owners <= together]
        if kept != before and len(kept) >= recipe.fewest_functions:
            yield Ablated("up_to", row, keeping(recipe, kept, f"add {row}"))
            before = kept
    if not before:
        few = f"add: never as many as {recipe.fewest_functions} labelling functions"
        raise ConfigError(few, where=recipe.name)


def keeping(recipe: Recipe, names: Collection[str], row: str) -> Recipe:
    """Return the recipe with the named labelling functions alone.

    Operators that only the others read go with them, and a score of such an operator breaks no ties any more:
    the uid does. Else all that is not a function stays as it was. Raises ConfigError, naming the `row`, where
    too few functions are left.
    """
    left = tuple(f for f in recipe.labelling_functions if f.name in names)
    gone = tuple(f for f in recipe.labelling_functions if f.name not in names)
    keep = recipe.keep
    if keep and keep.tie_score and _operator(keep.tie_score) in _operators(*gone) - _operators(*left):
        keep = keep.model_copy(update={"tie_break": BY_UID})
    changes: dict[str, Any] = {"labelling_functions": left, "keep": keep}
    try:
        smaller = _changed(recipe, changes)
        read = {_operator(score) for score in (*smaller.scores(), *smaller.deduplication_scores())}
        unread = _operators(*gone) - read
        return _changed(
            smaller, {"operators": {k: v for k, v in recipe.operators.items() if k not in unread}}
        )
    except ValidationError as error:
        raise explain(error, f"{recipe.name}, {row}", Recipe) from None


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    fields = {name: getattr(recipe, name) for name in recipe.model_fields_set}
    return Recipe.model_validate({**fields, **changes})


def _order(recipe: Recipe, ablation: Ablation) -> tuple[str, ...]:
    if ablation.of == "operators":
        return tuple(recipe.operators)
    return tuple(f.name for f in recipe.labelling_functions)


def _named(groups: Groups, known: list[str], key: str, recipe: Recipe) -> Mapping[str, tuple[str, ...]]:
    """Return the rows with what each is about; raises ConfigError for a part that there is not."""
    if groups is None:
        return {part: (part,) for part in known}
    for part in (part for parts in groups.values() for part in parts):
        if part not in known:
            raise ConfigError(
                f"{key}: there is no {part!r}", where=recipe.name, todo=f"there are: {', '.join(known)}"
            )
    return groups


def _operators(*functions: LabellingFunction) -> set[str]:
    """Return the operators whose scores labelling functions read."""
    scores = {condition.score for function in functions for condition in function.conditions()}
    scores |= {function.score for function in functions if function.score}
    return {_operator(score) for score in scores}


def _operator(score: str) -> str:
    return score.partition(".")[0]
