"""W&B: one run a training, with what curation kept, the loss, and the scores; offline by default."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.evaluate.tasks import Task
from ecodatum.fingerprint import fingerprint
from ecodatum.pipeline.curation_jobs import read_lf_summary
from ecodatum.pipeline.experiment import TrackingSpec
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.training_jobs import TRAINING, read_results
from ecodatum.pipeline.units import Output, Progress, Unit

STAGE = "track"
_VERSION = 1


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
    job = Track(mark, run.name, graph.experiment.name, spec, run, graph.tasks)
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

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write W&B's own files; online, send them too."""
        import wandb

        folder = outputs[""]
        folder.mkdir(parents=True)
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
            self._log(run, wandb)
        finally:
            run.finish()
        progress(1)
        return {"mode": self.spec.wandb, "id": self.id, "training": self.run_made.training.fingerprint}

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

    def _log(self, run: Any, wandb: Any) -> None:
        from ecodatum.train.progress import training_curve

        made = self.run_made
        run.define_metric("train/samples_seen")
        run.define_metric("train/*", step_metric="train/samples_seen")
        for point in training_curve(made.training.path / TRAINING).to_dict("records"):
            run.log({f"train/{key}": value for key, value in point.items() if key != "step"})
        results = read_results(made.evaluation.path)
        table = wandb.Table(columns=["task", "main_metric"])
        for result in results:
            table.add_data(result["dataset"], result["metrics"].get("main_metric"))
        run.log({"tasks": table})
        counts = made.subset.read()["counts"]
        run.summary.update({f"curation/{key}": counts[key] for key in ("rows", "kept")})
        run.summary.update(
            {f"score/{group}": value for group, value in aggregate(results, self.tasks).items()}
        )
        if made.model:
            summary = read_lf_summary(made.model.path).reset_index()
            summary["polarity"] = summary["polarity"].map(str)
            run.log({"labelling_functions": wandb.Table(dataframe=summary)})

    def parameters(self) -> dict[str, Any]:
        """Return the tracking settings."""
        return {"experiment": self.experiment, **self.spec.model_dump(mode="json")}
