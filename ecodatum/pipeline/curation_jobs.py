"""What the units of curation do: score, calibrate, vote, fit, select."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.curate.calibration import calibrate, calibrated
from ecodatum.curate.diagnostics import diagnose
from ecodatum.curate.histogram import Histogram, lf_summary
from ecodatum.curate.mean_score import Moments, function_scores
from ecodatum.curate.recipe import FILE_ORDER, Recipe, Share
from ecodatum.curate.scores import as_numbers
from ecodatum.curate.selection import NO_CANDIDATE, Ranked, find_cut, select, size_to_keep
from ecodatum.curate.voting import load_columns, passes, vote_patterns
from ecodatum.errors import RunError
from ecodatum.files import write_json
from ecodatum.operators.operator import create
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pipeline.units import Progress
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part
from ecodatum.pool.subsets import read_subset, write_subset
from ecodatum.pool.uids import UidArray

SCORES, VOTES, HISTOGRAM = "scores.parquet", "votes.parquet", "histogram.parquet"


@dataclass(frozen=True)
class OperatorSpec:
    """An operator as a recipe names it."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """One pass over a part for all the operators whose scores are missing; outputs by fingerprint."""

    part: Part
    operators: Mapping[str, OperatorSpec]
    device: str

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Score the part with the operators of the given outputs."""
        from ecodatum.operators.score import score

        operators = {key: create(self.operators[key].name, self.operators[key].parameters) for key in outputs}
        for folder in outputs.values():
            folder.mkdir(parents=True)
        files = {key: folder / SCORES for key, folder in outputs.items()}
        return dict(score(self.part, operators, files, device=self.device, progress=progress))

    def parameters(self) -> dict[str, Any]:
        """Name the part, the operators, and the sha256 of the files that these use."""
        assets = {key: create(spec.name, spec.parameters).checksums() for key, spec in self.operators.items()}
        return {
            "part": self.part.name,
            "operators": {k: asdict(v) for k, v in self.operators.items()},
            "assets": {key: sums for key, sums in assets.items() if sums},
        }


@dataclass(frozen=True)
class Calibrate:
    """Turn a recipe's shares of the pool into thresholds."""

    recipe: Recipe
    parts: tuple[PartFiles, ...]

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the thresholds as JSON."""
        found = calibrate(self.recipe, [part.scores() for part in self.parts])
        rows = [{**share._asdict(), "threshold": value} for share, value in found.items()]
        outputs[""].write_text(json.dumps(rows, indent=1), encoding="utf-8")
        progress(1)
        return {"thresholds": rows}

    def parameters(self) -> dict[str, Any]:
        """List the shares."""
        return {"tops": self.recipe.tops()}


def calibrated_recipe(recipe: Recipe, thresholds: Path | None) -> Recipe:
    """Return the recipe with the thresholds that its calibration found."""
    if thresholds is None:
        return recipe
    rows = json.loads(thresholds.read_text(encoding="utf-8"))
    return calibrated(
        recipe, {Share(row["score"], row["top"], row["after"]): row["threshold"] for row in rows}
    )


@dataclass(frozen=True)
class Vote:
    """Apply a recipe's rules and labelling functions to a part."""

    recipe: Recipe
    part: PartFiles
    thresholds: Path | None

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the pattern of each row, and their histogram without the rows that are no candidates."""
        recipe, rows = calibrated_recipe(self.recipe, self.thresholds), self.part.part.rows
        columns = load_columns(self.part.scores(), recipe.scores())
        patterns = vote_patterns(recipe, columns, rows)
        candidates = passes(recipe.rules, columns, rows) & self.part.survive()
        patterns[~candidates] = NO_CANDIDATE
        histogram = Histogram.of(patterns[candidates])
        outputs[""].mkdir()
        _write(outputs[""] / VOTES, {"pattern": patterns})
        _write(outputs[""] / HISTOGRAM, {"pattern": histogram.patterns, "count": histogram.counts})
        progress(rows)
        return {"rows": rows, "candidates": histogram.total, "patterns": len(histogram.patterns)}

    def parameters(self) -> dict[str, Any]:
        """Return the rules and the labelling functions."""
        return votes_identity(self.recipe)


def votes_identity(recipe: Recipe) -> dict[str, Any]:
    """Return what the votes depend on besides the scores, as JSON."""
    document = recipe.model_dump(mode="json", by_alias=True)
    return {key: document[key] for key in ("rules", "labelling_functions")}


@dataclass(frozen=True)
class Fit:
    """Fit the label model on the merged histograms."""

    recipe: Recipe
    votes: tuple[Path, ...]

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write each pattern's count and P(SELECT), the summary of the labelling functions, and doubts."""
        from ecodatum.curate.combination import combine

        names = [function.name for function in self.recipe.labelling_functions]
        histogram = Histogram.merged(_read_histogram(folder) for folder in self.votes)
        if histogram.total == 0:
            raise RunError("no sample is left by the rules and deduplication", todo="loosen the rules")
        fitted = combine(histogram, self.recipe)
        summary = lf_summary(histogram, names).assign(weight=fitted.weights)
        outputs[""].mkdir()
        _write(
            outputs[""] / "patterns.parquet",
            {
                "pattern": histogram.patterns,
                "count": histogram.counts,
                "probability": fitted.probabilities,
            },
        )
        write_json(outputs[""] / "lf_summary.json", summary.reset_index().to_dict("records"))
        found = diagnose(histogram, self.recipe.labelling_functions, fitted).document()
        if self.recipe.combine != "label_model":
            found["warnings"] = []  # they are reasons to distrust a label model
        write_json(outputs[""] / "diagnostics.json", found)
        progress(1)
        counts = {"candidates": histogram.total, "patterns": len(histogram.patterns)}
        return {**counts, "warnings": [doubt["message"] for doubt in found["warnings"]]}

    def parameters(self) -> dict[str, Any]:
        """Return what combines the votes, and its settings."""
        own = {} if self.recipe.combine == "label_model" else {"combine": self.recipe.combine}
        return {**self.recipe.label_model.model_dump(), **own}


def read_lf_summary(model: Path) -> pd.DataFrame:
    """Return the summary of a fitted label model's folder, a row per labelling function."""
    rows = json.loads((model / "lf_summary.json").read_text(encoding="utf-8"))
    return pd.DataFrame(rows).set_index("labelling function")


def read_diagnostics(model: Path) -> dict[str, Any]:
    """Return the diagnostics of a fitted label model's folder (`Diagnostics.document`)."""
    found: dict[str, Any] = json.loads((model / "diagnostics.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class SelectByRules:
    """Keep the rows that pass every rule, of those that deduplication left."""

    recipe: Recipe
    parts: tuple[PartFiles, ...]
    thresholds: Path | None

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the subset."""
        recipe, kept = calibrated_recipe(self.recipe, self.thresholds), []
        for part in self.parts:
            rows = part.part.rows
            mask = passes(recipe.rules, load_columns(part.scores(), recipe.scores()), rows)
            kept.append(part.uids()[mask & part.survive()])
            progress(rows)
        return _finish(np.concatenate(kept), outputs[""], sum(p.part.rows for p in self.parts))

    def parameters(self) -> dict[str, Any]:
        """Return the rules."""
        return votes_identity(self.recipe)


@dataclass(frozen=True)
class SelectByRank:
    """Keep the candidates that the label model ranks highest."""

    recipe: Recipe
    parts: tuple[PartFiles, ...]
    votes: tuple[Path, ...]
    model: Path

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the subset; the counts tell where the ranking was cut."""
        if self.recipe.keep is None:
            raise RunError("nothing says how many samples to keep")
        table = pq.read_table(self.model / "patterns.parquet")
        patterns, counts, probabilities = (column.to_numpy() for column in table.columns)
        candidates, least = int(counts.sum()), self.recipe.keep.probability
        if least is None:
            size = size_to_keep(self.recipe.keep, candidates)
        else:
            size = int(counts[probabilities >= least].sum())
        if size == 0:
            raise RunError(
                f"keeps none of {candidates} candidates", todo="raise keep.top, or lower keep.probability"
            )
        cut = find_cut(patterns, counts, probabilities, size, self._ranked)
        chosen = select(cut, self._ranked, file_order=self.recipe.keep.tie_break == FILE_ORDER)
        rows = sum(part.part.rows for part in self.parts)
        progress(rows)
        at_cut = {
            "probability": cut.probability,
            "tie_score": None if np.isinf(cut.tie_score) else cut.tie_score,
            "rows_of_that_probability": cut.rows_through,
        }
        return {
            **_finish(chosen, outputs[""], rows),
            "candidates": candidates,
            "cut": at_cut,
        }

    def _ranked(self) -> Iterator[Ranked]:
        tie_score = self.recipe.keep.tie_score if self.recipe.keep else None
        for part, votes in zip(self.parts, self.votes, strict=True):
            patterns = pq.read_table(votes / VOTES).column("pattern").to_numpy()
            if tie_score is None:
                ties: npt.NDArray[np.floating] = np.zeros(len(patterns), np.float32)
            else:
                ties = as_numbers(part.scores().column(tie_score))
            yield Ranked(part.uids(), patterns, ties)

    def parameters(self) -> dict[str, Any]:
        """Return how many stay and what breaks ties."""
        return keep_identity(self.recipe)


@dataclass(frozen=True)
class SelectByScore:
    """Keep the candidates with the highest mean of normalised scores; equal ones by ascending uid."""

    recipe: Recipe
    parts: tuple[PartFiles, ...]
    thresholds: Path | None

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the subset; the counts tell where the ranking was cut."""
        if self.recipe.keep is None:
            raise RunError("nothing says how many samples to keep")
        candidates, moments = 0, []
        for part in self.parts:
            mask, scores = self._read(part)
            candidates += int(mask.sum())
            moments.append(Moments.of([score[mask] for score in scores]))
        whole = Moments.merged(moments)
        size = size_to_keep(self.recipe.keep, candidates)
        if size == 0:
            raise RunError(f"keeps none of {candidates} candidates", todo="raise keep.top")

        def ranked() -> Iterator[Ranked]:
            for part in self.parts:
                mask, scores = self._read(part)
                patterns = np.where(mask, np.uint64(0), NO_CANDIDATE)
                yield Ranked(part.uids(), patterns, whole.standardised(scores))

        one = np.zeros(1, np.uint64), np.array([candidates]), np.ones(1)
        cut = find_cut(*one, size, ranked)
        rows = sum(part.part.rows for part in self.parts)
        progress(rows)
        counts = _finish(select(cut, ranked, file_order=False), outputs[""], rows)
        return {**counts, "candidates": candidates, "mean_score_at_cut": cut.tie_score}

    def _read(self, part: PartFiles) -> tuple[npt.NDArray[np.bool_], list[npt.NDArray[np.float64]]]:
        """Return a part's candidates, (rows,), and what each labelling function sees, (rows,) each."""
        recipe, rows = calibrated_recipe(self.recipe, self.thresholds), part.part.rows
        columns = load_columns(part.scores(), recipe.scores())
        mask = passes(recipe.rules, columns, rows) & part.survive()
        return mask, [function_scores(f, columns, rows) for f in recipe.labelling_functions]

    def parameters(self) -> dict[str, Any]:
        """Return the rules, the labelling functions, and how many stay."""
        return {**votes_identity(self.recipe), "combine": self.recipe.combine, **keep_identity(self.recipe)}


def keep_identity(recipe: Recipe) -> dict[str, Any]:
    """Return what says how many stay, and what breaks ties; a probability only where one is given."""
    document = recipe.keep.model_dump() if recipe.keep else {}
    return {k: v for k, v in document.items() if k != "probability" or v is not None}


@dataclass(frozen=True)
class TakeSubset:
    """Take a subset that was made elsewhere; all its uids must be in the pool."""

    subset: Path
    parts: tuple[PartFiles, ...]

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Check the subset and copy it."""
        uids, rows = read_subset(self.subset), 0
        index, known = uid_arrays.UidIndex(uids), np.zeros(len(uids), bool)
        for part in self.parts:
            start, stop = index.runs(part.uids())
            for copy in range(int((stop - start).max(initial=0))):  # a uid may stand there several times
                known[(start + copy)[stop - start > copy]] = True
            rows += part.part.rows
            progress(part.part.rows)
        if not known.all():
            raise RunError(
                f"{int((~known).sum()):,} of {len(uids):,} uids are not in the pool",
                where=self.subset,
                todo="is it the subset of another pool?",
            )
        return _finish(uids, outputs[""], rows)

    def parameters(self) -> dict[str, Any]:
        """Name the file."""
        return {"subset": self.subset.name}


def _finish(uids: UidArray, path: Path, rows: int) -> dict[str, Any]:
    if len(uids) == 0:
        raise RunError(
            f"the selection is empty: 0 of {rows} rows pass",
            todo="loosen the recipe's rules; `--set` tries other values",
        )
    write_subset(path, uids)
    return {"rows": rows, "kept": len(uids)}


def _write(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def _read_histogram(folder: Path) -> Histogram:
    table = pq.read_table(folder / HISTOGRAM)
    return Histogram(table.column("pattern").to_numpy(), table.column("count").to_numpy())
