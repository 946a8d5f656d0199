"""Matrices: one entry of an experiment's filters that stands for the product of several values."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import PlainValidator

from ecodatum.curate.schema import ROW_NAME


class Value(NamedTuple):
    """A value that a key takes in a row: its name in the row's, whether that was given, and the value."""

    name: str
    named: bool
    value: Any


def _axes(matrix: Any) -> dict[str, tuple[Value, ...]]:
    if not isinstance(matrix, dict) or not matrix:
        raise ValueError("should be a mapping of keys, such as keep.top, to values")
    return {str(key): tuple(_values(str(key), values)) for key, values in matrix.items()}


def _values(key: str, values: Any) -> Iterator[Value]:
    if not isinstance(values, list | dict) or not values:
        raise ValueError(f"{key}: should be a list of values, or {{name: value}}")
    named = isinstance(values, dict)
    pairs = values.items() if isinstance(values, dict) else ((_word(value), value) for value in values)
    for name, value in pairs:
        if not re.match(ROW_NAME, str(name)) and not (key == "recipe" and not named):
            raise ValueError(f"{key}: {value!r} makes no name for a row: write {{name: value}}")
        yield Value(str(name), named, value)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


#: Values by dotted key of a recipe, or for `recipe` itself; a row for each combination.
Matrix = Annotated[
    Mapping[str, tuple[Value, ...]],
    PlainValidator(_axes, json_schema_input_type=dict[str, list[Any] | dict[str, Any]]),
]


def combinations(matrix: Mapping[str, tuple[Value, ...]]) -> Iterator[dict[str, Value]]:
    """Yield each combination of the values by key, the last key's values changing fastest."""
    for values in product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))
