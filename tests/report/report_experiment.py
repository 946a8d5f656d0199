"""An experiment to report on: curated for real, with what trainings and evaluations leave written down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ecodatum.pipeline.execution import run_unit
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, build_graph
from ecodatum.pipeline.units import Progress, Unit
from ecodatum.pool.subsets import write_subset
from ecodatum.pool.uids import UID
from tests.conftest import write_pool

HOSTILE = '<script>document.title="owned"</script> <img src=x onerror=alert(1)> & "quoted" \x00\u202e ünï $x$'
CURATION = ("score", "calibrate", "deduplicate", "vote", "fit", "select")

RECIPE = {
    "name": "ensemble",
    "title": "Ensemble <of five>",
    "source": "a test",
    "operators": {"metadata": {}, "image_quality": {}, "caption": {}, "language": {}},
    "rules": [{"score": "caption.characters", "at_least": 1}],
    "labelling_functions": [
        {"name": "given", "score": "metadata.clip_l14_similarity_score", "boundary": 0.2, "margin": 0.05},
        {
            "name": "b32",
            "select": [{"score": "metadata.clip_b32_similarity_score", "at_least": {"top": 0.5}}],
            "reject": [{"score": "metadata.clip_b32_similarity_score", "at_most": {"top": 0.8}}],
        },
        {"name": "dark", "reject": [{"score": "image_quality.dark", "at_most": 0.32}]},
        {"name": "short", "reject": [{"score": "caption.words", "at_most": 2}]},
        {"name": "language", "reject_unless": [{"score": "language.lang", "is": "en"}]},
    ],
    "label_model": {"epochs": 20},
    "keep": {"top": 0.4, "tie_break": "metadata.clip_l14_similarity_score"},
}
SCALE = """\
name: own
model: ViT-B-32
batch_size: 8
samples_seen: 640
learning_rate: 1.0e-3
warmup: 2
checkpoints: 2
"""
TASKS = [
    {"key": "a/colours", "name": "Colours & <shapes>", "group": "imagenet"},
    {"key": "a/other", "name": "Others"},
]


def write_report_experiment(folder: Path, *, shards: bool = True, **changes: Any) -> Path:
    """Write an experiment over a pool of 48 rows with every fault, and return its file."""
    odd: dict[int, dict[str, Any]] = {
        1: {"text": HOSTILE},
        2: {"text": "two words"},
        3: {"image": None},
        5: {"image": b"no image at all"},
        7: {"text": "ein schönes Bild von einem grünen Kreis auf grauem Grund"},
        9: {"text": "x" * 900},
    }
    pool = write_pool(folder / "pool", 24, 2, odd)
    if not shards:
        for file in (pool / "shards").iterdir():
            file.unlink()
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "scale.yaml").write_text(SCALE)
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": TASKS}))
    for task in TASKS:
        (folder / "sets" / f"wds_{task['key'].replace('/', '-')}_test").mkdir(parents=True)
    uids = [divmod((row * 0x9E3779B97F4A7C15 + 1), 1 << 64) for row in (3, 5)]
    write_subset(folder / "broken.npy", np.array(uids, UID))
    document = {
        "name": "reported",
        "title": "A report & its <title>",
        "pool": "pool",
        "filters": [
            "no_filter",
            {"recipe": "clip_score", "title": "CLIP score $0.30$"},
            "ensemble.yaml",
            {"recipe": "ensemble.yaml", "name": "mean", "title": "Mean", "set": {"combine": "mean_score"}},
            {"name": "broken", "title": "Broken images", "subset": "broken.npy"},
        ],
        "seeds": [0, 1],
        "train": {"scale": "scale.yaml", "workers": 1, "precision": "fp32"},
        "evaluate": {"tasks": "tasks.yaml", "data": "sets"},
        "tracking": {"wandb": "off"},
        **changes,
    }
    path = folder / "reported.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def open_graph(path: Path, work: Path, *, device: str = "cpu") -> Graph:
    """Return the experiment's graph."""
    return build_graph(load_experiment(str(path)), work, device=device)


def curate(graph: Graph) -> None:
    """Run the stages of curation."""
    for unit in graph.units:
        if unit.stage in CURATION:
            outcome = run_unit(unit)
            assert outcome.status in {"ran", "done"}, outcome


def finish(graph: Graph) -> None:
    """Have every training and evaluation leave what it would."""
    for unit in graph.units:
        if unit.stage in {"train", "evaluate"}:
            leaves = _Log(unit.name) if unit.stage == "train" else _Results(unit.name)
            outcome = run_unit(replace(unit, job=leaves, needs=()))
            assert outcome.status in {"ran", "done"}, outcome


def unit_of(graph: Graph, stage: str) -> Unit:
    """Return the first unit of a stage."""
    return next(unit for unit in graph.units if unit.stage == stage)


@dataclass(frozen=True)
class _Log:
    """Leaves the log of a training that goes well."""

    name: str

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        lines = [
            f"2026-01-01,00:00:00 | INFO | Train Epoch: {epoch} [{done:>4}/320 ({done // 4}%)] Data (t): 0.01"
            f" Batch (t): 0.1, 80.0/s, 80.0/s/gpu LR: 0.001 Logit Scale: 14.3 Contrastive_loss: 2 (2)"
            f" Loss: {4 / (1 + epoch + done / 320):.3f} (2.0)\n"
            for epoch in (0, 1)
            for done in (8, 160, 320)
        ]
        folder = outputs[""] / "training"
        folder.mkdir(parents=True)
        (folder / "out.log").write_text("".join(lines))
        return {"samples_seen": 640}

    def parameters(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Results:
    """Leaves results that follow from the run's name."""

    name: str

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        outputs[""].mkdir(parents=True, exist_ok=True)
        lines = [
            {"key": task["key"], "dataset": task["name"], "metrics": {"main_metric": score_of(self.name, i)}}
            for i, task in enumerate(TASKS)
        ]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (outputs[""] / "eval_results.jsonl").write_text(text)
        return {"tasks": len(TASKS)}

    def parameters(self) -> dict[str, Any]:
        return {}


def score_of(run: str, task: int) -> float:
    """Return the score of a run, `<filter>-seed<n>`, on a task."""
    name, _, seed = run.rpartition("-seed")
    return round(0.1 + 0.02 * len(name) + 0.01 * int(seed) + 0.1 * task, 3)
