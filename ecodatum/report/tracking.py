"""W&B: one run a training, with what curation kept, the loss, the scores, and artifacts; offline by default.

A run's id follows from what made it, its steps are numbered the same each time, and each attempt begins in
a folder of its own: a unit that was killed and runs again logs nothing twice. Offline, W&B lets no run say
what it uses: there the subset is logged like the results, whose metadata name it; online it is used.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.evaluate.tasks import Task
from ecodatum.files import remove
from ecodatum.fingerprint import fingerprint
from ecodatum.pipeline.chain import chain
from ecodatum.pipeline.experiment import TrackingSpec
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.training_jobs import TRAINING, read_results
from ecodatum.pipeline.units import Output, Progress, Unit

STAGE = "track"
_VERSION = 2
#: The stages whose units tell a gallery what a filter kept, and how it voted.
_CURATION: Final = ("calibrate", "vote", "select")


def tracking_units(graph: Graph) -> tuple[Unit, ...]:
    """Return one unit per run that logs it to W&B; none where tracking is off."""
    spec = graph.experiment.tracking
    if spec.wandb == "off":
        return ()
    return tuple(_unit(run, graph, spec) for run in graph.runs)


def _unit(run: Run, graph: Graph, spec: TrackingSpec) -> Unit:
    mark = fingerprint(
        [
            STAGE,
            _VERSION,
            run.name,
            run.evaluation.fingerprint,
            graph.experiment.name,
            spec.model_dump(mode="json"),
        ]
    )
    output = Output(graph.work / "tracking" / f"{run.name}@{mark}", mark)
    curation = tuple(unit for unit, _ in chain(graph, run) if unit.stage in _CURATION)
    alone = replace(graph, units=curation, runs=(run,))
    job = Track(mark, run.name, graph.experiment.name, spec, run, graph.tasks, alone)
    log = graph.folder / "logs" / STAGE / f"{run.name}.log"
    needs = tuple(filter(None, (run.subset, run.model, run.training, run.evaluation)))
    return Unit(STAGE, run.name, (output,), job, needs, 1, "runs", log=log)


@dataclass(frozen=True)
class Track:
    """Log a finished run to W&B, under an id that follows from what made it."""

    id: str
    name: str
    experiment: str
    spec: TrackingSpec
    run_made: Run
    tasks: tuple[Task, ...]
    made_from: Graph

    @property
    def data(self) -> Path:
        """Where W&B keeps the tables' files until they are sent; a run's own folder is renamed."""
        return self.made_from.work / "tracking" / "artifacts" / self.id

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write W&B's own files; online, send them too."""
        remove(self.data)
        self.data.mkdir(parents=True)
        folder = outputs[""]
        folder.mkdir(parents=True)
        with _environment("WANDB_DATA_DIR", str(self.data)):
            self._track(folder)
        progress(1)
        return {"mode": self.spec.wandb, "id": self.id, "training": self.run_made.training.fingerprint}

    def _track(self, folder: Path) -> None:
        import wandb

        settings = wandb.Settings(
            console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True
        )
        try:
            run = wandb.init(
                project=self.spec.project,
                entity=self.spec.entity,
                group=self.experiment,
                name=self.name,
                id=self.id,
                resume="allow",
                mode="offline" if self.spec.wandb == "offline" else "online",
                dir=str(folder),
                config=self._config(),
                settings=settings,
            )
        except (wandb.errors.Error, OSError) as error:
            raise RunError(
                f"W&B cannot be reached: {error}", todo="set tracking.wandb to offline, and sync later"
            ) from error
        try:
            self._log(run)
        finally:
            run.finish()

    def _config(self) -> dict[str, Any]:
        made = self.run_made
        return {
            "experiment": self.experiment,
            "filter": made.filter.name,
            "seed": made.seed,
            "recipe": made.filter.recipe.model_dump(mode="json", by_alias=True)
            if made.filter.recipe
            else None,
            "training": made.training.read()["parameters"],
            "fingerprints": {
                "subset": made.subset.fingerprint,
                "training": made.training.fingerprint,
                "evaluation": made.evaluation.fingerprint,
            },
        }

    def _log(self, run: Any) -> None:
        """Log all under numbered steps: W&B drops those that a run which it goes on with has already."""
        from ecodatum.report import wandb_content
        from ecodatum.train.progress import training_curve

        made = self.run_made
        run.define_metric("train/samples_seen")
        run.define_metric("train/*", step_metric="train/samples_seen")
        points = training_curve(made.training.path / TRAINING).to_dict("records")
        for step, point in enumerate(points):
            run.log({f"train/{key}": value for key, value in point.items() if key != "step"}, step=step)
        results = read_results(made.evaluation.path)
        tables = {"tasks": wandb_content.task_table(results, self.tasks)}
        if made.model:
            tables["labelling_functions"] = wandb_content.function_table(made.model.path)
        tables["gallery"] = wandb_content.gallery_table(self.made_from)
        run.log(tables, step=len(points))
        counts = made.subset.read()["counts"]
        scores = aggregate(results, self.tasks)
        run.summary.update({f"curation/{key}": counts[key] for key in ("rows", "kept")})
        run.summary.update({f"score/{group}": value for group, value in scores.items()})
        subset = wandb_content.subset_artifact(made)
        if self.spec.wandb == "offline":
            run.log_artifact(subset)
        else:
            run.use_artifact(subset)
        run.log_artifact(wandb_content.results_artifact(made, scores))

    def parameters(self) -> dict[str, Any]:
        """Return the tracking settings."""
        return {"experiment": self.experiment, **self.spec.model_dump(mode="json")}


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable while the block runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
