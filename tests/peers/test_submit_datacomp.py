"""`ecodatum submit --yes` through DataComp's unmodified evaluate.py, to a hub and a leaderboard here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ecodatum.datacomp.checkout import find_checkout
from tests.submission.loopback_leaderboard import Leaderboard, serving
from tests.submission.small_scale_run import RUN, make_run, write_experiment

pytestmark = pytest.mark.slow

TOKEN = "hf_" + "t" * 34
DETAILS = {
    "--method-name": "CLIP score, again",
    "--author": "A. Name",
    "--email": "a@example.org",
    "--hf-username": "someone",
    "--hf-repo-name": "repo",
    "--writeup": "https://example.org/paper",
}


@pytest.fixture(scope="module", autouse=True)
def checkout() -> None:
    if "DATACOMP_HOME" not in os.environ:
        pytest.skip("DataComp's checkout is absent (set DATACOMP_HOME)")
    for package in ("clip_benchmark", "wilds", "datasets", "cloudpathlib"):
        pytest.importorskip(package, reason="pip install 'ecodatum[datacomp]'")
    assert find_checkout().pinned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    make_run(write_experiment(folder), folder / "work")
    return folder


@pytest.fixture
def board() -> Iterator[Leaderboard]:
    with serving(Leaderboard()) as serves:
        yield serves


def start(made: Path, board: Leaderboard, out: Path, *more: str) -> "subprocess.Popen[str]":
    """Start `ecodatum submit --yes`; the folder of bundles, in `work`, is emptied by a link to `out`."""
    bundles = made / "work" / "leaderboard"
    bundles.unlink(missing_ok=True)
    bundles.symlink_to(out, target_is_directory=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "HF_ENDPOINT": board.address,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "ECODATUM_LEADERBOARD": board.address,
    }
    details = [f"{option}={value}" for option, value in DETAILS.items()]
    line = [sys.executable, "-m", "ecodatum", "submit", str(made / "small.yaml"), RUN, "--yes"]
    line += ["--work", str(made / "work"), "--device", "cpu", *details, *more]
    return subprocess.Popen(
        line, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )


def submit(made: Path, board: Leaderboard, out: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    process = start(made, board, out, *more)
    told, wrong = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, told, wrong)


def results(made: Path) -> dict[str, float]:
    file = next((made / "work").glob(f"evaluations/{RUN}@*/eval_results.jsonl"))
    found = map(json.loads, file.read_text().splitlines())
    return {line["dataset"]: line["metrics"]["main_metric"] for line in found}


def subset(made: Path) -> Path:
    return next((made / "work").glob("filters/clip_score/subset@*.npy"))


def test_all_arrives_as_evaluate_py_sends_it_and_once(made: Path, board: Leaderboard, tmp_path: Path) -> None:
    done = submit(made, board, tmp_path, "--upload-checkpoint")
    assert done.returncode == 0, done.stderr
    assert "Evaluating on" not in done.stdout  # all forty were there
    checkpoint = next((made / "work").glob(f"trainings/{RUN}@*/training/checkpoints/epoch_latest.pt"))
    assert board.files == {
        "small_scale/results.jsonl": next(tmp_path.glob("*/eval_results.jsonl")).read_bytes(),
        f"small_scale/samples/{RUN}.npy": subset(made).read_bytes(),
        "small_scale/checkpoint.pt": checkpoint.read_bytes(),
    }
    ((key, sent),) = board.records.items()
    assert key.startswith("someone__repo__")
    size = len(np.load(subset(made)))
    expected = {
        "scale": "small",
        "model": "ViT-B-32",
        "dataset_size": str(size),
        "checkpoint": str(checkpoint),
        "batch_size": 4096,
        "learning_rate": 5e-4,
        "track": "filtering",
        **{option.strip("-").replace("-", "_"): value for option, value in DETAILS.items()},
        **{name: score for name, score in results(made).items() if score is not None},
    }
    assert {name: value for name, value in sent.items() if name != "timestamp"} == expected
    assert sum(isinstance(value, float) for value in results(made).values()) == 38
    (text,) = board.notifications
    assert "CLIP score, again" in text and "someone/repo" in text and "example.org/paper" in text
    note = json.loads(next(tmp_path.glob("*/bundle.json")).read_text())
    assert note["record"] == expected
    # The key goes to the hub alone, and into no file.
    assert board.tokens == {("hub", f"Bearer {TOKEN}"), ("database", ""), ("notification", "")}
    assert TOKEN not in done.stdout + done.stderr
    for path in (*made.rglob("*"), *tmp_path.rglob("*")):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    asked = len(board.asked)
    again = submit(made, board, tmp_path, "--upload-checkpoint")
    assert again.returncode == 0 and "arrived" in again.stdout
    assert len(board.asked) == asked  # nothing is sent a second time


@pytest.mark.parametrize("step", ["hub", "database", "notification"])
def test_a_second_attempt_goes_on_where_the_first_failed(
    step: str, made: Path, board: Leaderboard, tmp_path: Path
) -> None:
    board.refuse[step] = 1
    failed = submit(made, board, tmp_path)
    assert failed.returncode == 1
    before = ["hub", "database", "notification"]
    for name in before:
        arrived = before.index(name) < before.index(step)
        assert (f"{name}: arrived" in failed.stderr) == arrived, failed.stderr
    assert "give the same command again" in failed.stderr
    again = submit(made, board, tmp_path)
    assert again.returncode == 0, again.stderr
    assert (len(board.commits), len(board.records), len(board.notifications)) == (1, 1, 1)
    assert "someone/repo" in board.notifications[0]  # the link, though the files were there before


def test_a_record_that_was_not_answered_is_not_there_twice(
    made: Path, board: Leaderboard, tmp_path: Path
) -> None:
    board.silent = 1
    failed = submit(made, board, tmp_path)
    assert failed.returncode == 1 and len(board.records) == 1
    time.sleep(1.1)  # the script names a record by the second
    again = submit(made, board, tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(board.records) == 1 and len(board.notifications) == 1


def test_killed_after_the_upload_it_goes_on(made: Path, board: Leaderboard, tmp_path: Path) -> None:
    process = start(made, board, tmp_path)
    deadline = time.monotonic() + 300
    while not board.commits:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = submit(made, board, tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(board.records) == 1 and len(board.notifications) == 1
