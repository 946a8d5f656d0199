"""Turns pydantic's validation errors into one message that names the file, the key and what is allowed."""

import difflib
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ecodatum.errors import ConfigError

#: What YAML calls what pydantic calls otherwise, by the type of its error.
_WORDS: Final = {
    "model_type": "should be a mapping of keys to values",
    "dict_type": "should be a mapping of keys to values",
    "tuple_type": "should be a list",
}


def explain(error: ValidationError, where: object, model: type[BaseModel] | None = None) -> ConfigError:
    """Return the ConfigError for a ValidationError; a misspelt key gets the nearest allowed ones."""
    details = error.errors(include_url=False)
    places = {tuple(detail["loc"][:-1]) for detail in details}
    # A list whose items are wrong is not too short: pydantic counts those that are right.
    told = [d for d in details if d["type"] != "too_short" or tuple(d["loc"]) not in _above(places)]
    lines = [_line(detail, model) for detail in told]
    return ConfigError("; ".join(dict.fromkeys(lines)), where=where)


def _line(detail: Any, model: type[BaseModel] | None) -> str:
    key = ".".join(str(step) for step in detail["loc"] if not _is_branch(step))
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(detail['loc'], model)}"
    if detail["type"] == "missing":
        return f"key {key!r} is missing"
    message = _WORDS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    message = message[0].lower() + message[1:]
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message}{shown}" if key else f"{message}"


def _above(places: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return the places and all that they lie in."""
    return {place[:end] for place in places for end in range(len(place) + 1)}


def _is_branch(step: object) -> bool:
    """Tell the names that pydantic adds for a union's branches, which the user never wrote."""
    return isinstance(step, str) and (
        step[:1].isupper() or "[" in step or step in {"float", "int", "str", "bool"}
    )


def _nearest(loc: tuple[Any, ...], model: type[BaseModel] | None) -> str:
    fields = _fields_at(model, loc[:-1]) if model else []
    near = difflib.get_close_matches(str(loc[-1]), fields, n=1)
    if near:
        return f": did you mean {near[0]!r}?"
    return f" (allowed: {', '.join(fields)})" if fields else ""


def _fields_at(model: type[BaseModel], steps: tuple[Any, ...]) -> list[str]:
    """List the keys that are allowed below `steps`, following models through containers and unions."""
    current: type[BaseModel] | None = model
    inner: list[type[BaseModel]] = []
    for step in steps:
        if isinstance(step, int) or current is None:
            continue
        if step in current.model_fields:
            inner = _models_in(current.model_fields[step].annotation)
            current = inner[0] if inner else None
        current = next((model for model in inner if model.__name__ == step), current)
    if current is None:
        return []
    return [f.serialization_alias or name for name, f in current.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """List the models that an annotation is made of; of a tagged union all branches."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
