"""A whole experiment that runs in seconds: a made pool, a tiny model, two tasks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.evaluate.tiny_evalsets import write_labelled, write_retrieval
from tests.train.tiny_training import make_scale

RECIPE = {
    "name": "ensemble",
    "title": "Ensemble",
    "source": "a test",
    "operators": {
        "metadata": {},
        "image_quality": {},
        "caption": {},
        "clip": {"flips": ["none", "vertical"]},
        "perceptual_hash": {},
    },
    "deduplicate": [
        {"name": "images", "hash": "perceptual_hash.phash", "within": 4, "keep_best": "clip.similarity"}
    ],
    "labelling_functions": [
        {"name": "clip", "score": "clip.similarity", "boundary": {"top": 0.5}, "margin": 0.01},
        {"name": "vclip", "score": "clip.vclip_similarity", "boundary": {"top": 0.4}, "margin": 0.01},
        {"name": "given", "score": "metadata.clip_l14_similarity_score", "boundary": 0.2, "margin": 0.05},
        {"name": "dark", "reject": [{"score": "image_quality.dark", "at_most": 0.32}]},
        {"name": "short", "reject": [{"score": "caption.words", "at_most": 2}]},
    ],
    "label_model": {"epochs": 20},
    "keep": {"top": 0.4, "tie_break": "clip.similarity"},
}


def write_experiment(folder: Path, pool: Path, **changes: Any) -> Path:
    """Write an experiment over `pool`, with all that it needs, into `folder`, and return its YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = make_scale(folder)
    text = (
        scale.read_text().replace("samples_seen: 240", "samples_seen: 64").replace("points: 3", "points: 2")
    )
    scale.write_text(text)
    weights = _save_weights(folder)
    recipe = json.loads(json.dumps(RECIPE))
    recipe["operators"]["clip"] |= {"model": "tiny-clip.json", "weights": weights}
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(recipe))
    sets = folder / "evalsets"
    write_labelled(sets / "wds_tiny-colours_test")
    write_retrieval(sets / "tiny" / "pairs")
    tasks = [
        {"key": "tiny/colours", "name": "Colours", "group": "imagenet"},
        {
            "key": "tiny/pairs",
            "name": "Pairs",
            "kind": "retrieval",
            "main_metric": "mean_recall@1",
            "group": "retrieval",
            "data": "tiny/pairs",
        },
    ]
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    experiment = {
        "name": "small",
        "pool": str(pool),
        "filters": ["no_filter", "clip_score", "ensemble.yaml"],
        "train": {"scale": "scale.yaml", "workers": 1, "precision": "fp32", "shard_size": 10},
        "evaluate": {"tasks": "tasks.yaml", "data": "evalsets"},
        "tracking": {"wandb": "off"},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def _save_weights(folder: Path) -> str:
    """Save weights for the model, in a process of its own: open_clip keeps one model of a name a process."""
    code = (
        "import open_clip, torch; from ecodatum.operators.clip_models import register; torch.manual_seed(0); "
        "network = open_clip.create_model(register('tiny-clip.json')); "
        "torch.save(network.state_dict(), 'weights.pt')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return "weights.pt"
