"""DataComp's unmodified scripts and our engines take each other's files, and give the same numbers."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ecodatum.datacomp import scripts
from ecodatum.datacomp.checkout import Checkout, find_checkout
from ecodatum.evaluate.datacomp_scripts import evaluate_with_datacomp
from ecodatum.evaluate.evaluator import evaluate
from ecodatum.evaluate.tasks import load_tasks, select
from ecodatum.train.arguments import open_clip_arguments
from ecodatum.train.datacomp import train_with_datacomp
from ecodatum.train.folder import TrainResult
from ecodatum.train.scales import FIXED, Scale, load_scale
from ecodatum.train.training import train
from tests.train.tiny_training import make_scale, make_shards

pytestmark = pytest.mark.slow

#: Hands each list of options to train.py, and prints what that would hand to open_clip's trainer.
CAPTURE = """
import json, os, runpy, sys
import training.main
training.main.main = lambda arguments: print("ARGUMENTS", json.dumps(arguments)) or -1
script = sys.argv[1]
for options, world_size in json.loads(sys.argv[2]):
    os.environ["WORLD_SIZE"] = str(world_size)
    os.environ["RANK"] = "1"  # which writes no files
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def checkout() -> Checkout:
    if "DATACOMP_HOME" not in os.environ:
        pytest.skip("DataComp's checkout is absent (set DATACOMP_HOME)")
    for package in ("clip_benchmark", "wilds", "datasets", "cloudpathlib"):
        pytest.importorskip(package, reason="pip install 'ecodatum[datacomp]'")
    found = find_checkout()
    assert found.pinned
    return found


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    return load_scale(str(make_scale(tmp_path_factory.mktemp("scale"))))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def ours(scale: Scale, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(scale, shards, tmp_path_factory.mktemp("ours"), seed=3, workers=1, device="cpu")


@pytest.fixture(scope="module")
def theirs(
    checkout: Checkout, scale: Scale, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    out = tmp_path_factory.mktemp("theirs")
    return train_with_datacomp(scale, shards, out, seed=3, workers=1, device="cpu")


@pytest.fixture(scope="module")
def evalsets(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.peers.forty_sets import make_forty_sets

    return make_forty_sets(tmp_path_factory.mktemp("evalsets"), tmp_path_factory.mktemp("scratch"))


def parameters(training: TrainResult) -> dict[str, str]:
    """Return what the trainer was told, as it wrote it down, without the places."""
    lines = (training.folder / "params.txt").read_text().splitlines()
    told = dict(line.split(": ", 1) for line in lines)
    return {
        key: value
        for key, value in told.items()
        if str(training.folder.parent) not in value and key != "dist_url"
    }


def test_train_py_is_told_the_same_as_our_trainer_and_writes_the_same_files(
    ours: TrainResult, theirs: TrainResult
) -> None:
    assert parameters(theirs) == parameters(ours)
    assert theirs.samples_seen == ours.samples_seen == 240
    own, other = (pickle.loads(training.info.read_bytes()) for training in (ours, theirs))
    assert theirs.checkpoint == other.pop("checkpoint")
    assert ours.checkpoint == own.pop("checkpoint")
    assert own == other


def test_a_training_by_train_py_is_not_run_again(theirs: TrainResult, scale: Scale, shards: Path) -> None:
    before = theirs.checkpoint.stat().st_mtime_ns
    train_with_datacomp(scale, shards, theirs.folder.parent, seed=3, workers=1, device="cpu")
    assert theirs.checkpoint.stat().st_mtime_ns == before


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two lines of results have the same metrics, to 1e-6."""
    values = list(zip(one["metrics"].values(), other["metrics"].values(), strict=True))
    return list(one["metrics"]) == list(other["metrics"]) and all(
        a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-6 for a, b in values
    )


def test_evaluate_py_gives_our_checkpoint_the_numbers_that_we_give_it(
    ours: TrainResult, scale: Scale, evalsets: Path, tmp_path: Path
) -> None:
    tasks, model = load_tasks("datacomp"), scale.model_or_file
    told: list[str] = []
    peer = evaluate_with_datacomp(
        model,
        ours.checkpoint,
        evalsets,
        tmp_path / "theirs",
        training=ours.folder,
        device="cpu",
        on_result=lambda line: told.append(line["key"]),
    )
    assert told == [task.key for task in tasks]
    mine = evaluate(model, ours.checkpoint, evalsets, tasks, tmp_path / "ours", device="cpu", threads=1)
    assert [a["key"] for a, b in zip(mine, peer, strict=True) if not same(a, b)] == []
    computed: list[str] = []
    evaluate(
        model,
        ours.checkpoint,
        evalsets,
        tasks,
        tmp_path / "theirs",
        device="cpu",
        on_result=lambda line: computed.append(line["key"]),
    )
    assert computed == []  # results are interchangeable


def test_our_evaluator_gives_train_pys_checkpoint_the_numbers_of_evaluate_py(
    checkout: Checkout, theirs: TrainResult, scale: Scale, evalsets: Path, tmp_path: Path
) -> None:
    keys = ("mnist", "wilds/fmow", "retrieval/flickr_1k_test_image_text_retrieval")
    few = Path(
        shutil.copytree(checkout.path, tmp_path / "few", ignore=shutil.ignore_patterns(".git", "figs"))
    )
    listed = yaml.safe_load((few / "tasklist.yml").read_text())
    (few / "tasklist.yml").write_text(yaml.safe_dump({key: listed[key] for key in keys}, sort_keys=False))
    out = tmp_path / "theirs"
    scripts.run(
        Checkout(few, None, changed=True),
        "evaluate.py",
        ["--train_output_dir", str(theirs.folder), "--output_dir", str(out), "--data_dir", str(evalsets)],
        own_scale=theirs.folder / "own_scale.json",
        on_cpu=True,
        watch=lambda: None,
    )
    peer = [json.loads(line) for line in (out / "eval_results.jsonl").read_text().splitlines()]
    tasks = select(load_tasks("datacomp"), keys)
    mine = evaluate(
        scale.model_or_file, theirs.checkpoint, evalsets, tasks, tmp_path / "ours", device="cpu", threads=1
    )
    found = {line["key"]: line for line in peer}
    assert [line["key"] for line in mine if not same(line, found[line["key"]])] == []


def test_arguments_are_equal_at_every_scale_precision_accumulation_and_number_of_gpus(
    checkout: Checkout, shards: Path
) -> None:
    cases = [
        (name, precision, accumulation, world_size)
        for name in FIXED
        for precision in ("amp", "amp_bf16", "fp32")
        for accumulation in (1, 2)
        for world_size in (1, 8)
    ]
    told = []
    for name, precision, accumulation, world_size in cases:
        options = [
            "--scale",
            name,
            "--data_dir",
            str(shards),
            "--output_dir",
            "OUT",
            "--precision",
            precision,
        ]
        told.append(([*options, "--accum_freq", str(accumulation), "--seed", "7"], world_size))
    ended = subprocess.run(
        [sys.executable, "-c", CAPTURE, str(checkout.script("train.py")), json.dumps(told)],
        env={**scripts.environment(on_cpu=True), "PYTHONPATH": python_path(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    marked = [line for line in ended.stdout.splitlines() if line.startswith("ARGUMENTS ")]
    theirs = [json.loads(line.removeprefix("ARGUMENTS ")) for line in marked]
    assert len(theirs) == len(cases)
    for (name, precision, accumulation, world_size), given in zip(cases, theirs, strict=True):
        ours = open_clip_arguments(
            FIXED[name],
            shards,
            "OUT",
            model=FIXED[name].model,
            name=f"{name}_scale",
            seed=7,
            precision=precision,
            accumulation=accumulation,
            world_size=world_size,
        )
        assert ours == given


def python_path(checkout: Checkout) -> str:
    """Return the layer's path with the checkout, which is a script's own folder otherwise."""
    return os.pathsep.join([scripts.environment()["PYTHONPATH"], str(checkout.path)])
