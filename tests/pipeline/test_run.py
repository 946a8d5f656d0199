"""The whole chain, run by its own command in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import MakePool, write_pool
from tests.pipeline.small_experiment import write_experiment

STAGES = ("score", "calibrate", "deduplicate", "vote", "fit", "select", "reshard", "train", "evaluate")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecodatum", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, process_group=0
    )


def ecodatum(*arguments: object) -> subprocess.CompletedProcess[str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def contents(work: Path) -> dict[str, bytes]:
    """Return the subsets, the shards' files and the table that a run made."""
    files = [*work.glob("filters/*/*.npy"), *work.glob("shards/**/*.tar"), *work.glob("small/leaderboard.*")]
    return {str(path.relative_to(work)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    return write_experiment(folder, write_pool(folder / "pool", 24, 2, {5: {"image": None}}))


@pytest.fixture(scope="module")
def undisturbed(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("undisturbed")
    done = ecodatum("run", experiment, "--work", work)
    assert done.returncode == 0, done.stderr
    return work


def test_a_run_ends_with_the_table(undisturbed: Path) -> None:
    table = pd.read_csv(undisturbed / "small" / "leaderboard.csv")
    assert table["filter"].tolist() == ["no_filter", "clip_score", "ensemble"]
    # int(0.3 * 48) is index 14: fifteen rows; deduplication leaves 46, and int(0.4 * 46) of them stay.
    assert table["size"].tolist() == [48, 15, 18]
    assert table["Average_mean"].between(0, 1).all()
    assert "| Filter | Dataset size |" in (undisturbed / "small" / "leaderboard.md").read_text()


def test_every_output_has_a_manifest_that_says_what_made_it(undisturbed: Path) -> None:
    manifests = [json.loads(path.read_text()) for path in undisturbed.rglob("*.manifest.json")]
    assert {manifest["stage"] for manifest in manifests} == set(STAGES)
    for manifest in manifests:
        assert {"fingerprint", "inputs", "parameters", "versions", "host", "seconds", "counts"} <= set(
            manifest
        )
    assert not list(undisturbed.rglob("*.tmp-*")) and not list(undisturbed.rglob("*.partial-*"))


def test_a_second_run_runs_nothing(experiment: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.manifest.json")}
    done = ecodatum("run", experiment, "--work", undisturbed)
    assert done.returncode == 0 and "nothing to do" in done.stderr and ", 0 to run" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.manifest.json")} == before


def test_a_new_threshold_scores_nothing_anew(experiment: Path, undisturbed: Path) -> None:
    text = experiment.read_text().replace(
        "- clip_score", "- {recipe: clip_score, set: {rules.0.at_least.top: 0.5}}"
    )
    changed = experiment.with_name("changed.yaml")
    changed.write_text(text)
    planned = ecodatum("plan", changed, "--work", undisturbed)
    rows = {cells[0]: cells[1:4] for cells in map(_cells, planned.stdout.splitlines()) if len(cells) >= 4}
    assert rows["score"][2] == rows["vote"][2] == rows["fit"][2] == "0"
    assert rows["calibrate"][2] == rows["select"][2] == rows["train"][2] == "1"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("│", "|").split("|") if cell.strip()]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_a_stage_it_goes_on_to_the_same_bytes(
    stage: str, experiment: Path, undisturbed: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    process = start("run", experiment, "--work", work)
    logs = work / "small" / "logs" / stage
    deadline = time.monotonic() + 900
    while not list(logs.glob("*.log")):  # a unit of the stage has begun
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = ecodatum("run", experiment, "--work", work)
    assert done.returncode == 0, done.stderr
    assert contents(work) == contents(undisturbed)


def test_a_part_with_a_truncated_tar_fails_alone_and_blocks_what_needs_it(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool()
    tar = pool / "shards" / "00000003.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:9000])
    experiment, work = write_experiment(tmp_path / "experiment", pool), tmp_path / "work"
    failed = ecodatum("run", experiment, "--work", work)
    assert failed.returncode == 1
    assert "00000003.tar" in failed.stderr and "truncated" in failed.stderr
    assert "not started" in failed.stderr and "Traceback" not in failed.stderr
    assert len(list(work.glob("scores/clip@*/*.manifest.json"))) == 1  # the other part is scored
    tar.write_bytes(whole)
    mended = ecodatum("run", experiment, "--work", work)
    assert mended.returncode == 0, mended.stderr


def test_two_launches_at_once_do_not_harm_each_other(
    experiment: Path, undisturbed: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    both = [start("run", experiment, "--work", work, "--jobs", 1) for _ in range(2)]
    ended = [process.communicate(timeout=1200) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert contents(work) == contents(undisturbed)
