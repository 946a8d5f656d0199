"""Scores that the pool already has: columns of its metadata, and the images' sizes."""

from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from ecodatum.errors import PoolError
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where

#: The types of CommonPool's columns; any other numeric column is taken as float64, which holds them all.
_TYPES: Final = {
    "clip_b32_similarity_score": pa.float32(),
    "clip_l14_similarity_score": pa.float32(),
    "original_width": pa.int64(),
    "original_height": pa.int64(),
}


class MetadataParameters(Parameters):
    """columns: the numeric metadata columns to take as scores."""

    columns: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = (
        "clip_b32_similarity_score",
        "clip_l14_similarity_score",
    )


class Metadata(MetadataOperator):
    """Takes numeric metadata columns as they are."""

    name = "metadata"
    version = 1
    parameters_type = MetadataParameters

    def __init__(self, parameters: MetadataParameters) -> None:
        super().__init__(parameters)
        self._names = tuple(dict.fromkeys(parameters.columns))

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column for each that is named, with its name."""
        return tuple(
            Column(name, _TYPES.get(name, pa.float64()), f"the metadata column {name}")
            for name in self._names
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The named columns."""
        return self._names

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Copy the columns; raises PoolError for one that holds no numbers."""
        values, faults = {}, []
        for column in self.columns:
            values[column.name] = _numbers(batch, column.name).cast(column.type)
            missing = batch.column(column.name).is_null().to_numpy(zero_copy_only=False)
            faults.append(fault_where(missing, f"{column.name} is missing"))
        return self.scores(values, *faults)


class ImageSize(MetadataOperator):
    """The size of the original image, as the metadata give it."""

    name = "image_size"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Null where a size is missing or not positive: such a row has no aspect ratio."""
        return (
            Column("short_side", pa.int64(), "shorter side in pixels", 1),
            Column("long_side", pa.int64(), "longer side in pixels", 1),
            Column("aspect", pa.float64(), "longer side / shorter side", 1),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The original width and height."""
        return "original_width", "original_height"

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Compare and divide as DataComp's basic filter does (baselines/apply_filter.py)."""
        width, height = (
            pc.fill_null(_numbers(batch, name).cast(pa.float64()), 0).to_numpy() for name in self.inputs
        )
        known = (width >= 1) & (height >= 1)
        short = np.where(known, np.minimum(width, height), 1)
        long = np.where(known, np.maximum(width, height), 1)
        values = {
            "short_side": short.astype(np.int64),
            "long_side": long.astype(np.int64),
            "aspect": long / short,
        }
        return self.scores(
            {name: pa.array(column, mask=~known) for name, column in values.items()},
            fault_where(~known, "original size is missing or zero"),
        )


def _numbers(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise PoolError(f"the metadata column {name} holds {column.type}, not numbers")
    return column
