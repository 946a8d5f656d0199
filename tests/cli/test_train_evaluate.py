"""`ecodatum train` and `ecodatum evaluate`, as a user gives them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.evaluate.tiny_evalsets import Model, make_model, write_labelled
from tests.train.tiny_training import make_scale, make_shards

TASKS = "tasks:\n- {key: plain, name: Plain}\n- {key: other, name: Other}\n"


def ecodatum(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ecodatum", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_dry_run_prints_datacomps_arguments(reference: Path, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:08d}.tar").touch()
    done = ecodatum("train", "--scale", "small", "--data", tmp_path, "--out", "OUTPUT_DIR", "--dry-run")
    theirs = json.loads((reference / "datacomp" / "train_argv.json").read_text())["small"]
    ours = [argument.replace(str(tmp_path), "DATA_DIR") for argument in json.loads(done.stdout)]
    assert ours == theirs
    assert not Path("OUTPUT_DIR").exists()


def test_a_training_says_what_it_made_and_is_not_run_again(tmp_path: Path) -> None:
    scale = make_scale(tmp_path)
    (tmp_path / "shards").mkdir()
    make_shards(tmp_path / "shards")
    given = ("train", "--scale", scale, "--data", tmp_path / "shards", "--out", tmp_path / "out")
    options = ("--workers", 1, "--device", "cpu", "--log-every", 1)
    done = ecodatum(*given, *options)
    assert done.returncode == 0, done.stderr
    assert "240 samples seen" in done.stdout
    assert "not comparable with DataComp" in done.stderr
    checkpoint = tmp_path / "out" / "tiny_scale" / "checkpoints" / "epoch_latest.pt"
    before = checkpoint.stat().st_mtime_ns
    assert ecodatum(*given, *options).returncode == 0
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_more_gpus_than_there_are_is_an_error(tmp_path: Path) -> None:
    done = ecodatum("train", "--scale", "small", "--data", tmp_path, "--out", tmp_path, "--gpus", 2)
    assert done.returncode == 1
    assert "2 GPUs, where there are 0" in done.stderr


@pytest.fixture
def evalsets(tmp_path: Path) -> Path:
    root = tmp_path / "evalsets"
    write_labelled(root / "wds_plain_test")
    write_labelled(root / "wds_other_test", seed=1)
    (tmp_path / "tasks.yaml").write_text(TASKS)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"))


def evaluate(model: Model, evalsets: Path, *options: object) -> subprocess.CompletedProcess[str]:
    given = ("--model", model.config, "--checkpoint", model.checkpoint, "--data", evalsets)
    return ecodatum(
        "evaluate",
        *given,
        "--out",
        evalsets.parent / "out",
        "--task-list",
        evalsets.parent / "tasks.yaml",
        *options,
    )


def keys(evalsets: Path) -> list[str]:
    lines = (evalsets.parent / "out" / "eval_results.jsonl").read_text().splitlines()
    return [json.loads(line)["key"] for line in lines]


def test_a_damaged_set_is_named_and_the_others_are_kept(model: Model, evalsets: Path) -> None:
    tar = evalsets / "wds_plain_test" / "test" / "1.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:3000])
    done = evaluate(model, evalsets)
    assert done.returncode == 1
    assert "1 of 2 tasks could not be evaluated" in done.stderr
    assert "1.tar" in done.stderr
    assert keys(evalsets) == ["other"]
    tar.write_bytes(whole)
    mended = evaluate(model, evalsets)
    assert mended.returncode == 0
    assert "1 were there already" in mended.stderr
    assert keys(evalsets) == ["plain", "other"]


def test_only_the_tasks_asked_for_are_evaluated(model: Model, evalsets: Path) -> None:
    assert evaluate(model, evalsets, "--tasks", "Other", "--precision", "bf16").returncode == 0
    assert keys(evalsets) == ["other"]


def test_datacomps_script_takes_no_task_list(model: Model, evalsets: Path) -> None:
    done = evaluate(model, evalsets, "--engine", "datacomp")
    assert done.returncode == 1
    assert "its own forty tasks" in done.stderr
