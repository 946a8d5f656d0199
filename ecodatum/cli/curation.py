"""What `ecodatum curate` does: the curation stages for one recipe and any pool."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape

from ecodatum.cli.console import StageProgress, err
from ecodatum.curate.recipe import load_recipe
from ecodatum.files import replacing
from ecodatum.pipeline.curation import VERSIONS, Curation
from ecodatum.pipeline.curation_jobs import read_diagnostics, read_lf_summary
from ecodatum.pipeline.experiment import Filter
from ecodatum.pipeline.graph import resolve_device
from ecodatum.pipeline.run import run_stages
from ecodatum.pipeline.units import Unit
from ecodatum.pool.archive import unpacked
from ecodatum.pool.pool import open_pool


@dataclass(frozen=True)
class Curated:
    """A curated subset: sizes, what is known of the label model if there is one, and remarks."""

    rows: int
    kept: int
    summary: pd.DataFrame | None
    diagnostics: Mapping[str, Any] | None
    notes: tuple[str, ...]


def curate_pool(
    recipe: str,
    pool: Path,
    out: Path,
    *,
    work: Path,
    jobs: int,
    device: str,
    overrides: Mapping[str, Any],
) -> Curated:
    """Apply a recipe to a pool and write the subset to `out`.

    Raises ConfigError, PoolError or RunError.
    """
    loaded = load_recipe(recipe, overrides=overrides)
    work = work.expanduser().resolve()
    opened = open_pool(unpacked(pool, work / "unpacked"))
    curation = Curation(opened, work, work / "curate" / loaded.name / "logs", resolve_device(device))
    curation.plan([Filter(name=loaded.name, title=loaded.title, recipe=loaded)])
    folder = work / "curate" / loaded.name
    try:
        run_stages(curation.units, tuple(VERSIONS), jobs=jobs, folder=folder, reporter=StageProgress())
    finally:  # samples without a score may be why a stage failed
        for line in unscored(curation.units):
            err.print(line)
    subset = curation.subsets[loaded.name]
    with replacing(out) as temporary:
        shutil.copyfile(subset.path, temporary)
    counts = subset.read()["counts"]
    model = curation.models.get(loaded.name)
    summary = read_lf_summary(model.path) if model else None
    found = read_diagnostics(model.path) if model else None
    notes = (*doubtful(curation.units), *duplicates(curation.units), *_notes(counts))
    return Curated(counts["rows"], counts["kept"], summary, found, notes)


def unscored(units: Sequence[Unit]) -> list[str]:
    """Tell of the samples that could not be scored, with the first few of each operator and part."""
    scored = [output for unit in units if unit.stage == "score" for output in unit.outputs if output.done()]
    counted = [(output.path, output.read()["counts"]) for output in scored]
    return [
        f"{path.parent.name}, {path.name}: {counts['failed']} samples could not be scored: "
        + "; ".join(counts["first"])
        for path, counts in counted
        if counts["failed"]
    ]


def doubtful(units: Sequence[Unit]) -> list[str]:
    """Tell what makes the label models of these units doubtful, a line each."""
    fitted = [unit for unit in units if unit.stage == "fit" and unit.done()]
    return [
        warning(f"{unit.name}: {message}")
        for unit in fitted
        for message in unit.output.read()["counts"]["warnings"]
    ]


def duplicates(units: Sequence[Unit]) -> list[str]:
    """Tell what each step of deduplication removed, a line each."""
    return [
        f"{step['step']}: {step['removed']:,} of {step['candidates']:,} removed"
        + (f" ({step['groups']:,} groups)" if step["groups"] else "")
        for unit in units
        if unit.stage == "deduplicate"
        for step in unit.output.read()["counts"]["steps"]
    ]


def warning(message: str) -> str:
    """Return a warning as the console shows it."""
    return f"[yellow]warning:[/yellow] {escape(message)}"


def _notes(counts: Mapping[str, Any]) -> tuple[str, ...]:
    """Tell where the ranking was cut."""
    cut = counts.get("cut")
    if not cut:
        return ()
    share = f"which {cut['rows_of_that_probability']:,} samples share"
    return (f"cut at P(SELECT) = {cut['probability']:.4f}, {share}",)


def lf_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with the polarity in words."""
    words = {0: "reject", 1: "select"}
    shown = summary.reset_index()
    shown["polarity"] = [", ".join(words[vote] for vote in votes) or "-" for votes in shown["polarity"]]
    return shown


def agreement_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a function: on what share of the samples that both vote on it agrees with each other."""
    names = found["labelling_functions"]
    rows = [
        [f"{i}", name, *("-" if share is None else f"{share:.2f}" for share in shares)]
        for i, (name, shares) in enumerate(zip(names, found["agreement"], strict=True), 1)
    ]
    return pd.DataFrame(rows, columns=["", "labelling function", *map(str, range(1, len(names) + 1))])


def distribution_line(found: Mapping[str, Any]) -> str:
    """Return how many samples lie in each twentieth of P(SELECT) that has any."""
    counts = found["distribution"]
    shown = [f"{i / len(counts):.2f}: {count:,}" for i, count in enumerate(counts) if count]
    return f"samples by P(SELECT), from: {'  '.join(shown)}"
