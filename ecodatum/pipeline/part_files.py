"""A part of the pool with what has been made of it, as the stages after scoring take it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.curate.scores import PartScores
from ecodatum.errors import PoolError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.uids import UidArray


@dataclass(frozen=True)
class PartFiles:
    """A part of the pool with its score files, by the operator's key in the recipe.

    survivors: the file that tells which rows deduplication left, if there was one.
    """

    part: Part
    files: Mapping[str, Path]
    survivors: Path | None = None

    def scores(self) -> PartScores:
        """Return the part's scores."""
        return PartScores(self.part.rows, self.files)

    def uids(self) -> UidArray:
        """Return the part's uids in the order of its rows."""
        batches = [uid_arrays.from_hex(batch.column(0)) for batch in read_columns(self.part, ["uid"])]
        return np.concatenate([np.empty(0, uid_arrays.UID), *batches])

    def survive(self) -> npt.NDArray[np.bool_]:
        """Return which rows deduplication left, (rows,); raises PoolError when its file is damaged."""
        if self.survivors is None:
            return np.ones(self.part.rows, bool)
        try:
            mask: npt.NDArray[np.bool_] = pq.read_table(self.survivors).column("survives").to_numpy()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise PoolError(
                f"damaged survivors: {error}",
                where=self.survivors,
                todo="remove its folder and run again",
            ) from error
        return mask
