"""Scores: reads the columns that operators stored for a part, in the order of its metadata rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.errors import ConfigError, PoolError


@dataclass(frozen=True)
class PartScores:
    """The score files of one part, by the operator's key in the recipe; `rows` is the part's length."""

    rows: int
    files: Mapping[str, Path]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the score column `<operator>.<column>`, (rows,).

        Raises ConfigError for a column that the operator does not give, PoolError for a file that
        is damaged or has another number of rows than the part.
        """
        operator, _, column = name.partition(".")
        path = self.files[operator]
        try:
            with pq.ParquetFile(path) as file:
                known = [c for c in file.schema_arrow.names if not c.startswith("uid_")]
                if column not in known:
                    raise ConfigError(
                        f"the operator {operator} gives no column {column}",
                        where=name,
                        todo=f"it gives: {', '.join(known)}",
                    )
                values = file.read([column]).column(column)
        except (pa.ArrowException, OSError) as error:
            raise PoolError(
                f"damaged scores: {error}", where=path, todo="remove the file and run again"
            ) from error
        if len(values) != self.rows:
            raise PoolError(f"{len(values)} scores for a part of {self.rows} rows", where=path)
        return values


def as_numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a score column as numpy in its own precision, nulls as NaN; integers stay exact in float64."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise ConfigError(f"a score of type {kind} has no order", todo="compare it with `is`")
    target = np.float32 if pa.types.is_float32(kind) else np.float64
    values: npt.NDArray[Any] = column.to_numpy().astype(target, copy=False)
    return values
