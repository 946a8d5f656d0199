"""What a run has in W&B besides its curve: tables, galleries, and its subset and results as artifacts."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecodatum.evaluate.tasks import Task
from ecodatum.pipeline.curation_jobs import read_lf_summary
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.training_jobs import RESULTS
from ecodatum.report.curated import curated
from ecodatum.report.galleries import Gallery, Shown, galleries
from ecodatum.report.thumbnails import Thumbnail

if TYPE_CHECKING:
    import wandb


def task_table(results: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> "wandb.Table":
    """Return a row a task: its group, the name of its main metric, and the value (None: it has none)."""
    import wandb

    scores = {result["key"]: result["metrics"].get("main_metric") for result in results}
    table = wandb.Table(columns=["task", "group", "metric", "main_metric"])
    for task in tasks:
        if task.key in scores:
            table.add_data(task.name, task.group, task.main_metric or "–", scores[task.key])
    return table


def function_table(model: Path) -> "wandb.Table":
    """Return a row a labelling function: polarity, coverage, overlaps, conflicts and learned weight."""
    import wandb

    summary = read_lf_summary(model).reset_index()
    summary["polarity"] = summary["polarity"].map(str)
    return wandb.Table(dataframe=summary)


def gallery_table(graph: Graph) -> "wandb.Table":
    """Return a row a sample of what the graph's only filter kept and dropped: image, caption and votes."""
    import wandb

    table = wandb.Table(columns=["filter's choice", "image", "caption", "votes", "P(SELECT)", "uid"])
    for gallery in galleries(graph.pool, curated(graph)):
        for shown in gallery.samples:
            table.add_data(*_sample(gallery, shown))
    return table


def _sample(gallery: Gallery, shown: Shown) -> list[Any]:
    import wandb

    image = wandb.Image(_decoded(shown.image)) if shown.image else None
    votes = (
        "; ".join(f"{what}: {', '.join(who)}" for what, who in shown.verdict.votes) if shown.verdict else ""
    )
    remark = shown.verdict.remark if shown.verdict else ""
    chance = shown.verdict.probability if shown.verdict else None
    choice = "kept" if gallery.kept_by else "dropped"
    return [choice, image, shown.caption, votes or remark or shown.note, chance, shown.uid]


def _decoded(thumbnail: Thumbnail) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(thumbnail.uri.partition(",")[2])))


def subset_artifact(run: Run) -> "wandb.Artifact":
    """Return the run's subset; runs with the same subset have the same version of it."""
    import wandb

    counts = run.subset.read()["counts"]
    about = {"fingerprint": run.subset.fingerprint, "rows": counts["rows"], "kept": counts["kept"]}
    artifact = wandb.Artifact(subset_name(run), "subset", metadata=about)
    # Not copied: it stays where it is, and `wandb sync` reads it there.
    artifact.add_file(str(run.subset.path), name="subset.npy", policy="immutable", skip_cache=True)
    return artifact


def subset_name(run: Run) -> str:
    """Return the name of the artifact that is a run's subset."""
    return _artifact_name(f"{run.filter.name}-subset")


def results_artifact(run: Run, scores: Mapping[str, float]) -> "wandb.Artifact":
    """Return the run's results; its metadata name what they were made from."""
    import wandb

    made_from = {
        "subset": subset_name(run),
        "subset_fingerprint": run.subset.fingerprint,
        "training_fingerprint": run.training.fingerprint,
        "evaluation_fingerprint": run.evaluation.fingerprint,
    }
    metadata = {**made_from, "seed": run.seed, **scores}
    artifact = wandb.Artifact(_artifact_name(f"{run.name}-results"), "results", metadata=metadata)
    for name in (RESULTS, "eval_info.json"):
        file = run.evaluation.path / name
        artifact.add_file(str(file), name=name, policy="immutable", skip_cache=True)
    return artifact


def _artifact_name(name: str) -> str:
    """Return a name with W&B's letters alone."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
