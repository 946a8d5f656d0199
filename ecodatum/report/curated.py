"""The filters of an experiment as its report looks at them: what each read, how it voted, what it kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ecodatum.curate.recipe import Recipe
from ecodatum.pipeline.curation_jobs import (
    SelectByRank,
    SelectByRules,
    SelectByScore,
    TakeSubset,
    Vote,
    calibrated_recipe,
)
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pipeline.units import Unit
from ecodatum.pool.uids import UidArray, UidIndex


@dataclass(frozen=True)
class Curated:
    """One filter, and what is there of it yet.

    recipe: with the thresholds that calibration has found; None for a ready-made subset. votes: a folder
    a part, none before all are there. model: the label model's folder. subset: the file, with the counts
    of its manifest.
    """

    name: str
    title: str
    recipe: Recipe | None
    parts: tuple[PartFiles, ...]
    votes: tuple[Path, ...] = ()
    model: Path | None = None
    subset: Path | None = None
    counts: Mapping[str, Any] | None = None

    @property
    def ensemble(self) -> bool:
        """Whether labelling functions vote in it."""
        return self.recipe is not None and bool(self.recipe.labelling_functions)

    @property
    def kept(self) -> int:
        """How many samples it keeps."""
        return int(self.counts["kept"]) if self.counts else 0

    def keeps(self, uids: UidArray) -> npt.NDArray[np.bool_]:
        """Tell which of some uids, (n,), it keeps."""
        if self.subset is None:
            return np.zeros(len(uids), bool)
        start, stop = UidIndex(np.load(self.subset, mmap_mode="r")).runs(uids)
        return start < stop


def curated(graph: Graph) -> tuple[Curated, ...]:
    """Return the filters of an experiment in its order."""
    selects = {unit.output.path: unit for unit in graph.units if unit.stage == "select"}
    makers = {output.path: unit for unit in graph.units for output in unit.outputs}
    first = {run.filter.name: run for run in reversed(graph.runs)}
    names = dict.fromkeys(run.filter.name for run in graph.runs)
    return tuple(_curated(first[name], selects[first[name].subset.path], makers) for name in names)


def _curated(run: Run, unit: Unit, makers: Mapping[Path, Unit]) -> Curated:
    # `Job` is a protocol; these are all that selects.
    job = cast(SelectByRules | SelectByRank | SelectByScore | TakeSubset, unit.job)
    recipe = run.filter.recipe
    thresholds: Path | None = None
    votes: tuple[Path, ...] = ()
    if isinstance(job, SelectByRules | SelectByScore):
        thresholds = job.thresholds
    elif isinstance(job, SelectByRank):
        thresholds = cast(Vote, makers[job.votes[0]].job).thresholds if job.votes else None
        votes = job.votes if all(makers[path].done() for path in job.votes) else ()
    if recipe and thresholds and makers[thresholds].done():
        recipe = calibrated_recipe(recipe, thresholds)
    there = run.subset.done()
    return Curated(
        run.filter.name,
        run.filter.title,
        recipe,
        job.parts,
        votes,
        run.model.path if run.model and run.model.done() else None,
        run.subset.path if there else None,
        run.subset.read()["counts"] if there else None,
    )


@dataclass(frozen=True)
class Patterns:
    """A fitted label model's patterns, ascending, (k,) uint64; how often each occurs; P(SELECT) of each."""

    patterns: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]

    def probability(self, patterns: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """Return P(SELECT) of some patterns, (n,); NaN for one that no candidate has."""
        place = np.minimum(np.searchsorted(self.patterns, patterns), len(self.patterns) - 1)
        return np.where(self.patterns[place] == patterns, self.probabilities[place], np.nan)


def read_patterns(model: Path) -> Patterns:
    """Read a fitted label model's folder."""
    table = pq.read_table(model / "patterns.parquet")
    return Patterns(*(table.column(name).to_numpy() for name in ("pattern", "count", "probability")))
