"""Samples of scores: a seeded draw from all parts, or the rows of given uids, stored like a part's scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.curate.calibration import calibrate, calibrated
from ecodatum.curate.labels import Labels
from ecodatum.curate.order_statistics import top_threshold
from ecodatum.curate.recipe import Recipe, Top
from ecodatum.curate.scores import PartScores, as_numbers
from ecodatum.curate.selection import size_to_keep
from ecodatum.curate.voting import Columns, Mask, load_columns, passes
from ecodatum.errors import ConfigError
from ecodatum.pool.uids import UidArray, UidIndex


@dataclass(frozen=True)
class Sample:
    """A sample of the pool: its score columns, each (n,), and which rows pass the recipe's rules, (n,) bool.

    recipe: the recipe with each share replaced by its number in this sample. part: the share of the pool
    that the sample is.
    """

    recipe: Recipe
    columns: Columns
    candidates: Mask
    part: float

    def size_to_keep(self, candidates: int) -> int:
        """Return how many of the sample's candidates the recipe keeps, one at least."""
        keep = self.recipe.keep
        if keep is not None and keep.count is not None:
            keep = keep.model_copy(update={"count": round(keep.count * self.part)})
        return max(1, size_to_keep(keep, candidates) if keep else 0)

    def number(self, score: str, top: Top) -> float:
        """Return the score that a share of the sample reaches."""
        values = as_numbers(self.columns[score])
        chosen = values[self.candidates] if top.of == "passing" else values
        return top_threshold(lambda: [chosen], top.top)


def open_sample(recipe: Recipe, scores: PartScores, rows: int) -> Sample:
    """Load the scores that a recipe reads, of a sample from a pool of `rows` rows.

    Raises ConfigError where no row passes its rules.
    """
    columns = load_columns(scores, recipe.scores())
    fixed = calibrated(recipe, calibrate(recipe, [scores]))
    candidates = passes(fixed.rules, columns, scores.rows)
    if not candidates.any():
        raise ConfigError("no sample of the pool passes the recipe's rules", where=recipe.name)
    return Sample(fixed, columns, candidates, scores.rows / rows)


def draw_scores(parts: Sequence[PartScores], names: Sequence[str], size: int, seed: int) -> pa.Table:
    """Return the named score columns of `size` rows drawn from the parts, or of all rows if they are fewer.

    Each part gives its share of them; memory is a part's columns and the draw.
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum([0, *(part.rows for part in parts)])
    wanted = np.diff(np.rint(ends * min(1.0, size / max(int(ends[-1]), 1))).astype(np.int64))
    drawn = [
        _take(part, names, np.sort(rng.permutation(part.rows)[:count]))
        for part, count in zip(parts, wanted, strict=True)
    ]
    return pa.concat_tables(drawn).combine_chunks()


def labelled_scores(
    parts: Iterable[tuple[UidArray, PartScores]], names: Sequence[str], labels: Labels
) -> tuple[pa.Table, Labels]:
    """Return the named score columns of the labelled samples that are in the parts, and their labels.

    The first of several rows with one uid counts.
    """
    index, found, order = UidIndex(labels.uids), [], []
    known = np.zeros(len(labels.uids), bool)
    for uids, scores in parts:
        start, stop = index.runs(uids)
        rows = np.flatnonzero(start < stop)
        places, first = np.unique(start[rows], return_index=True)
        new = ~known[places]
        known[places] = True
        found.append(_take(scores, names, rows[first[new]]))
        order.append(places[new])
    table = pa.concat_tables(found).combine_chunks()
    return table, labels.take(np.concatenate(order))


def store_scores(table: pa.Table, folder: Path) -> PartScores:
    """Write a table of score columns, `<operator>.<column>`, to a new folder, a file an operator."""
    folder.mkdir(parents=True)
    operators = {name.partition(".")[0] for name in table.column_names}
    for operator in operators:
        names = [name for name in table.column_names if name.startswith(f"{operator}.")]
        own = table.select(names).rename_columns([name.partition(".")[2] for name in names])
        pq.write_table(own, folder / f"{operator}.parquet", compression="zstd")
    return stored_scores(folder)


def stored_scores(folder: Path) -> PartScores:
    """Return the scores that `store_scores` wrote."""
    files = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    rows = {int(pq.read_metadata(path).num_rows) for path in files.values()}
    return PartScores(max(rows), files)


def _take(part: PartScores, names: Sequence[str], rows: npt.NDArray[np.int64]) -> pa.Table:
    columns = load_columns(part, names)
    return pa.table({name: column.take(pa.array(rows)) for name, column in columns.items()})
