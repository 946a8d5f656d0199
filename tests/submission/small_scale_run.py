"""A finished run at DataComp's own small scale, all of it real but the 12.8 million samples that it saw.

The subset, the shards, the manifests, the trainer's arguments as its own parser has them, and the records of
training and evaluation are written by the code that writes them in a real run; the checkpoint has the scale's
model's tensors, each one number repeated, and the results are drawn.
"""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import yaml
from open_clip_train.params import parse_args

from ecodatum.evaluate.record import Record
from ecodatum.evaluate.tasks import Task, load_tasks
from ecodatum.pipeline.execution import run_unit
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, build_graph
from ecodatum.pipeline.training_jobs import CHECKPOINT, TRAINING, Evaluate, Train
from ecodatum.pipeline.units import Progress
from ecodatum.train.arguments import open_clip_arguments
from ecodatum.train.folder import TrainingFolder
from ecodatum.train.readable import data_identity
from ecodatum.train.scales import FIXED
from tests.conftest import write_pool

RUN = "clip_score-seed0"


def write_experiment(folder: Path) -> Path:
    """Write an experiment of one filter at the scale `small` over a pool of 48 rows; return its YAML."""
    pool = write_pool(folder / "pool", 24, 2, {2: {"image": None}, 5: {"image": None}})
    for task in load_tasks("datacomp"):
        (folder / "evalsets" / task.data).mkdir(parents=True, exist_ok=True)
        (folder / "evalsets" / task.data / "classnames.txt").write_text("red\nblue\n")
    experiment = {
        "name": "small",
        "pool": str(pool),
        "filters": [{"recipe": "clip_score", "set": {"rules.0.at_least.top": 0.5}}],
        "train": {"scale": "small", "workers": 4, "precision": "fp32"},
        "evaluate": {"data": str(folder / "evalsets")},
        "tracking": {"wandb": "off"},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def graph_of(experiment: Path, work: Path) -> Graph:
    """Return the experiment's graph, as of a run on the CPU."""
    return build_graph(load_experiment(str(experiment)), work, device="cpu")


def make_run(experiment: Path, work: Path) -> None:
    """Make all units of the experiment, the trained weights and the results pretended."""
    for unit in graph_of(experiment, work).units:
        if isinstance(unit.job, Train):
            unit = replace(unit, job=PretendedTraining(unit.job))
        elif isinstance(unit.job, Evaluate):
            unit = replace(unit, job=PretendedEvaluation(unit.job))
        outcome = run_unit(unit)
        assert outcome.status == "ran", outcome.message


@dataclass(frozen=True)
class PretendedTraining:
    """Leaves what the training would leave."""

    job: Train

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        scale = self.job.scale
        data = "::".join(str(path) for path in self.job.shards if any(path.glob("*.tar")))
        folder = TrainingFolder(outputs[""] / TRAINING)
        settings = {
            "scale": scale.identity(),
            "seed": self.job.seed,
            "device": "cpu",
            "precision": self.job.precision,
            "workers": self.job.workers,
            "accumulation": 1,
            "world_size": 1,
        }
        folder.claim({**settings, "data": data_identity(data, None)})
        arguments = open_clip_arguments(
            scale, data, outputs[""], model=scale.model, name=TRAINING, workers=self.job.workers
        )
        alone = {"world_size": 1, "rank": 0, "local_rank": 0, "distributed": False}  # the trainer adds these
        params = {**vars(parse_args(arguments)), **alone}
        (folder.path / "params.txt").write_text("".join(f"{k}: {params[k]}\n" for k in sorted(params)))
        save_checkpoint(folder.checkpoint, scale.model, scale.checkpoints)
        write_log(folder.log, 628 * 4096)
        folder.finish(scale.name, scale.datacomp_config(scale.model), data)
        change_info(folder.path, checkpoint=self.job.folder / CHECKPOINT)
        return {"samples_seen": 5 * 628 * 4096, "resumed": False, "read_errors": 0}

    def parameters(self) -> dict[str, Any]:
        return self.job.parameters()


@dataclass(frozen=True)
class PretendedEvaluation:
    """Leaves what the evaluation would leave."""

    job: Evaluate

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        record = Record.of(outputs[""], self.job.training / CHECKPOINT, self.job.scale.model, "fp32")
        record.open()
        rng = np.random.default_rng(0)
        for task in self.job.tasks:
            record.add(task, _metrics(task, rng), "a fingerprint")
        return {"tasks": len(record.results(self.job.tasks))}

    def parameters(self) -> dict[str, Any]:
        return self.job.parameters()


def _metrics(task: Task, rng: np.random.Generator) -> dict[str, float | None]:
    names = task.metrics() or ("acc_race_avg",)
    metrics: dict[str, float | None] = {name: round(float(rng.uniform()), 4) for name in names}
    return {**metrics, "acc_region:9": float("nan"), "count_region:9": 0.0} if "fmow" in task.key else metrics


def save_checkpoint(path: Path, model: str, epoch: int, *, seed: int = 0, value: float | None = None) -> None:
    """Save weights of the shapes of an open_clip model, each tensor one number; `value`: which."""
    with torch.device("meta"):
        shapes = open_clip.create_model(model, device=torch.device("meta")).state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in shapes.items():
        number = torch.randn((), generator=generator) if value is None else torch.tensor(value)
        state[f"module.{name}"] = number.to(like.dtype).expand(like.shape)
    torch.save({"epoch": epoch, "name": TRAINING, "state_dict": state, "optimizer": {}}, path)


def write_log(log: Path, epoch_samples: int) -> None:
    """Write the last line that the trainer logs, of its fifth epoch."""
    log.write_text(
        f"2026-01-01,00:00:00 | INFO | Train Epoch: 4 [{epoch_samples}/{epoch_samples} (100%)] Data (t): 0.1 "
        "Batch (t): 0.1, 4000.0/s, 500.0/s/gpu LR: 0.000001 Logit Scale: 20.869 "
        "Contrastive_loss: 3.1 (3.2) Loss: 3.1 (3.2)\n"
    )


def change_info(training: Path, **values: Any) -> None:
    """Change values of an info.pkl."""
    file = training / "info.pkl"
    file.write_bytes(pickle.dumps({**pickle.loads(file.read_bytes()), **values}))


def change_json(file: Path, *keys: str, value: Any) -> None:
    """Change one value in a JSON file."""
    document = json.loads(file.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    file.write_text(json.dumps(document))


def info_of(scale: str) -> dict[str, Any]:
    """Return what the info.pkl of another scale says."""
    return {"scale": scale, "scale_config": FIXED[scale].datacomp_config(FIXED[scale].model)}


def param_of(training: Path, key: str, value: object) -> None:
    """Change an argument in a training's params.txt."""
    file = training / "params.txt"
    text, count = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", file.read_text())
    assert count == 1
    file.write_text(text)
