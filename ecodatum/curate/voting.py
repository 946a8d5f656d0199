"""Votes: applies conditions and labelling functions to the score columns of a part, vectorised."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.curate.recipe import Condition, LabellingFunction, Recipe, Threshold, Top
from ecodatum.curate.scores import PartScores, as_numbers
from ecodatum.errors import ConfigError

SELECT, REJECT, ABSTAIN = 1, 0, -1

Mask = npt.NDArray[np.bool_]
Columns = Mapping[str, pa.ChunkedArray]

#: Digits in base 3 that 16 bits hold: in small integers the patterns cost a fifth.
_DIGITS = 10

_COMPARE = {
    "at_least": np.greater_equal,
    "above": np.greater,
    "at_most": np.less_equal,
    "below": np.less,
}


def load_columns(scores: PartScores, names: Iterable[str]) -> dict[str, pa.ChunkedArray]:
    """Read each named score column of a part once."""
    return {name: scores.column(name) for name in dict.fromkeys(names)}


def passes(rules: Sequence[Condition], columns: Columns, rows: int) -> Mask:
    """Return which rows pass every rule; (rows,) bool. A null score fails."""
    mask = np.ones(rows, bool)
    for rule in rules:
        mask &= holds(rule, columns[rule.score])
    return mask


def holds(condition: Condition, column: pa.ChunkedArray) -> Mask:
    """Return where a condition holds; (rows,) bool, False at nulls.

    A threshold is compared in the column's own precision, so that 0.28 on a float32 column keeps the
    rows that DataComp keeps.
    """
    mask = np.ones(len(column), bool)
    if condition.equals is not None:
        try:
            mask &= pc.fill_null(pc.equal(column, pa.scalar(condition.equals)), False).to_numpy()
        except pa.ArrowException as error:
            raise ConfigError(
                f"cannot compare {column.type} with `is`: {error}", where=condition.score
            ) from None
    bounds = list(condition.bounds())
    if bounds:
        values = _numbers(column, condition.score)
        for name, threshold in bounds:
            mask &= _COMPARE[name](values, values.dtype.type(_number(threshold)))
    return mask


def vote(function: LabellingFunction, columns: Columns, rows: int) -> npt.NDArray[np.int8]:
    """Return the votes of one labelling function; (rows,) int8 of SELECT, REJECT and ABSTAIN."""
    votes = np.full(rows, ABSTAIN, np.int8)
    if function.score is not None and function.boundary is not None:
        values = _numbers(columns[function.score], function.score)
        boundary, kind = _number(function.boundary), values.dtype.type
        votes[values <= kind(boundary - function.margin)] = REJECT
        votes[values >= kind(boundary + function.margin)] = SELECT
        return votes
    if function.reject:
        votes[passes(function.reject, columns, rows)] = REJECT
    if function.reject_unless:
        votes[~passes(function.reject_unless, columns, rows)] = REJECT
    if function.select:
        votes[passes(function.select, columns, rows)] = SELECT
    for name in dict.fromkeys(condition.score for condition in function.conditions()):
        if columns[name].null_count:
            votes[columns[name].is_null().to_numpy()] = ABSTAIN
    return votes


def vote_patterns(recipe: Recipe, columns: Columns, rows: int) -> npt.NDArray[np.uint64]:
    """Return each row's vote pattern: its row of the label matrix as one integer; (rows,) uint64.

    Digit j in base 3 is the vote of labelling function j plus 1.
    """
    patterns = np.zeros(rows, np.uint64)
    functions = recipe.labelling_functions
    for first in range(0, len(functions), _DIGITS):
        digits = np.zeros(rows, np.uint16)
        for function in reversed(functions[first : first + _DIGITS]):
            digits *= np.uint16(3)
            digits += (vote(function, columns, rows) + np.int8(1)).view(np.uint8)
        patterns += digits * np.uint64(3**first)
    return patterns


def unpack(patterns: npt.NDArray[np.uint64], functions: int) -> npt.NDArray[np.int8]:
    """Return the label matrix of vote patterns; (k, functions) int8."""
    powers = np.array([3**j for j in range(functions)], np.uint64)
    digits = patterns[:, None] // powers % np.uint64(3)
    return digits.astype(np.int8) - np.int8(1)


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.floating]:
    try:
        return as_numbers(column)
    except ConfigError as error:
        raise ConfigError(error.what, where=name, todo=error.todo) from None


def _number(threshold: Threshold) -> float:
    if isinstance(threshold, Top):
        raise TypeError("thresholds given as a share of the pool must be calibrated first")
    return threshold
