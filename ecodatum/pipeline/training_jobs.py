"""What the units after curation do: reshard, train, evaluate."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecodatum.errors import RunError
from ecodatum.evaluate.record import Record, Result
from ecodatum.evaluate.tasks import Task
from ecodatum.files import replacing
from ecodatum.launch.slurm import rank
from ecodatum.pipeline.experiment import EvaluateSpec
from ecodatum.pipeline.units import Progress
from ecodatum.pool.pool import Part
from ecodatum.pool.resharding import reshard
from ecodatum.pool.subsets import read_subset
from ecodatum.train.engines import Engine, trainer
from ecodatum.train.scales import Scale

if TYPE_CHECKING:
    from ecodatum.train.progress import Progress as Logged

#: The folder of a training, below its unit's output.
TRAINING = "training"
CHECKPOINT = Path(TRAINING, "checkpoints", "epoch_latest.pt")
RESULTS = "eval_results.jsonl"


@dataclass(frozen=True)
class Reshard:
    """Copy a part's samples that are in a subset to shards of their own."""

    part: Part
    subset: Path
    shard_size: int

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the shards."""
        done = reshard(
            self.part, read_subset(self.subset), outputs[""], shard_size=self.shard_size, progress=progress
        )
        return {"processed": done.processed, "written": done.written, "shards": done.shards}

    def parameters(self) -> dict[str, Any]:
        """Return the size of a shard."""
        return {"shard_size": self.shard_size}


@dataclass(frozen=True)
class Train:
    """Train at a scale on the shards of a filter, with one seed; `folder` is where it ends up.

    engine: whose trainer. processes: how many train it together, each calling `run`; see
    ecodatum/pipeline/task.py.
    """

    folder: Path
    scale: Scale
    shards: tuple[Path, ...]
    seed: int
    workers: int
    precision: str
    device: str
    engine: Engine = "builtin"
    processes: int = 1

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Train, or go on from the last checkpoint."""
        folders = [folder for folder in self.shards if any(folder.glob("*.tar"))]
        if not folders:
            raise RunError("the subset has no sample with an image", todo="choose another filter or pool")
        seen = 0

        def watch(logged: "Logged") -> None:
            nonlocal seen
            progress(max(0, logged.samples_seen - seen))
            seen = max(seen, logged.samples_seen)

        result = trainer(self.engine)(
            self.scale,
            "::".join(str(folder) for folder in folders),
            outputs[""],
            seed=self.seed,
            workers=self.workers,
            precision=self.precision,
            device=self.device,
            name=TRAINING,
            log_every=max(1, self.scale.samples_seen // self.scale.batch_size // 100),
            on_progress=watch,
        )
        if rank()[0] == 0:
            _relocate(result.info, self.folder / CHECKPOINT)
        return {
            "samples_seen": result.samples_seen,
            "resumed": result.resumed,
            "read_errors": result.read_errors,
        }

    def parameters(self) -> dict[str, Any]:
        """Return the scale's settings and the seed."""
        return {
            "scale": self.scale.model_dump(mode="json"),
            "comparable": self.scale.comparable,
            "seed": self.seed,
            "workers": self.workers,
            "precision": self.precision,
            "engine": self.engine,
            "processes": self.processes,
        }


def _relocate(info: Path, checkpoint: Path) -> None:
    """Let info.pkl name the checkpoint's final place: DataComp's evaluate.py reads it from there."""
    artifacts = pickle.loads(info.read_bytes())
    with replacing(info) as temporary:
        temporary.write_bytes(pickle.dumps({**artifacts, "checkpoint": checkpoint}))


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a training's last checkpoint on tasks: all of them, or one group of an array."""

    scale: Scale
    training: Path
    tasks: tuple[Task, ...]
    data: Path
    how: EvaluateSpec
    device: str

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write `eval_results.jsonl`."""
        results = (self._by_datacomp if self.how.engine == "datacomp" else self._here)(outputs[""], progress)
        return {"tasks": len(results)}

    def _here(self, out: Path, progress: Progress) -> list[Result]:
        from ecodatum.evaluate.evaluator import evaluate
        from ecodatum.operators.clip_models import register

        return evaluate(
            register(self.scale.model, self.scale.folder),
            self.training / CHECKPOINT,
            self.data,
            self.tasks,
            out,
            batch_size=self.how.batch_size,
            precision=self.how.precision,
            device=self.device,
            threads=1,
            on_result=lambda _: progress(1),
        )

    def _by_datacomp(self, out: Path, progress: Progress) -> list[Result]:
        from ecodatum.evaluate.datacomp_scripts import evaluate_with_datacomp

        return evaluate_with_datacomp(
            self.scale.model_or_file,
            self.training / CHECKPOINT,
            self.data,
            out,
            training=self.training / TRAINING,
            batch_size=self.how.batch_size,
            device=self.device,
            on_result=lambda _: progress(1),
        )

    def parameters(self) -> dict[str, Any]:
        """List the tasks, and how they are evaluated."""
        how = self.how.model_dump(include={"engine", "precision", "batch_size"})
        return {"tasks": [task.key for task in self.tasks], **how}


@dataclass(frozen=True)
class Collect:
    """Join the results of an evaluation that was divided."""

    parts: tuple[Path, ...]
    tasks: tuple[Task, ...]

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write `eval_results.jsonl`, in the order of the tasks."""
        return {"tasks": Record.join(self.parts, self.tasks, outputs[""])}

    def parameters(self) -> dict[str, Any]:
        """List the tasks."""
        return {"tasks": [task.key for task in self.tasks]}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of an evaluation's `eval_results.jsonl`."""
    lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
