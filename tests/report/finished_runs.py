"""Finished runs of an experiment whose scores a test chooses: the files and manifests that runs leave."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecodatum.curate.recipe import load_recipe
from ecodatum.evaluate.tasks import Task, load_tasks
from ecodatum.pipeline.experiment import Experiment, Filter
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.units import Output
from ecodatum.pool.pool import open_pool
from ecodatum.train.scales import FIXED, Scale
from tests.conftest import write_pool

#: By filter and seed: the scores of the tasks, one a task, or one for all of them.
Scores = Mapping[str, Mapping[int, float | Sequence[float | None]]]

DATACOMP = load_tasks("datacomp")
SCORED = tuple(task for task in DATACOMP if task.main_metric is not None)


def recipe_filter(recipe: str, *, name: str = "", title: str = "", **changes: Any) -> Filter:
    """Return a filter of a recipe in baselines/, with values set anew (`__` for the dots of a key)."""
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    loaded = load_recipe(recipe, overrides=overrides)
    return Filter(name=name or loaded.name, title=title or loaded.title, recipe=loaded)


def subset_filter(name: str, title: str) -> Filter:
    """Return a filter that is a ready-made subset."""
    return Filter(name=name, title=title, subset=Path("oracle.npy"))


def finished_graph(
    folder: Path,
    filters: Sequence[Filter],
    scores: Scores,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    scale: Scale = FIXED["small"],
    tasks: tuple[Task, ...] = DATACOMP,
    title: str = "A title",
) -> Graph:
    """Write what the runs in `scores` leave, and return a graph that has also those which are missing."""
    document = {
        "name": "chosen",
        "title": title,
        "pool": "pool",
        "filters": [{"recipe": "no_filter"}],
        "seeds": list(seeds),
        "train": {"scale": scale.name},
        "evaluate": {"data": "sets"},
    }
    pool = folder / "pool"
    if not pool.is_dir():
        write_pool(pool, 4, 1, {})
    runs = [_run(folder, item, seed) for seed in seeds for item in filters]
    for run in runs:
        given = scores.get(run.filter.name, {}).get(run.seed)
        if given is not None:
            finish(run, given, tasks)
    experiment = Experiment.model_validate(document)
    return Graph(experiment, open_pool(pool), folder, scale, tasks, (), tuple(runs))


def _run(folder: Path, item: Filter, seed: int) -> Run:
    def output(kind: str) -> Output:
        return Output(folder / kind / f"{item.name}-{seed}", f"{kind}-{item.name}-{seed}")

    return Run(item, seed, output("subsets"), None, output("trainings"), output("evaluations"))


def finish(run: Run, scores: float | Sequence[float | None], tasks: tuple[Task, ...] = DATACOMP) -> None:
    """Write what a finished run leaves of its subset and its evaluation."""
    scored = [task for task in tasks if task.main_metric is not None]
    values = [scores] * len(scored) if isinstance(scores, float) else scores
    lines = [
        {"key": task.key, "dataset": task.name, "metrics": {"main_metric": value}}
        for task, value in zip(scored, values, strict=True)
    ]
    run.evaluation.path.mkdir(parents=True)
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (run.evaluation.path / "eval_results.jsonl").write_text(text)
    run.subset.path.parent.mkdir(parents=True, exist_ok=True)
    run.subset.path.touch()
    for output, counts in ((run.subset, {"rows": 12800000, "kept": 3500000}), (run.evaluation, {})):
        manifest = {"fingerprint": output.fingerprint, "counts": counts, "versions": {"ecodatum": "0.1.0"}}
        output.manifest.write_text(json.dumps(manifest))
