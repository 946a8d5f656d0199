"""What is made of a finished run: the leaderboard, and W&B's offline runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, build_graph
from ecodatum.report.leaderboard import leaderboard
from tests.conftest import write_pool
from tests.pipeline.small_experiment import write_experiment
from tests.report.wandb_file import history, records, summary


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "WANDB_API_KEY": "k" * 40}
    line = [sys.executable, "-m", "ecodatum", *map(str, arguments)]
    return subprocess.run(line, text=True, capture_output=True, check=False, timeout=900, env=environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return an experiment, two filters by two seeds, and the work folder of its run."""
    folder = tmp_path_factory.mktemp("finished")
    pool = write_pool(folder / "pool", 24, 1, {})
    tracking = {"wandb": "offline", "project": "a-test"}
    filters = ["no_filter", "ensemble.yaml"]
    experiment = write_experiment(
        folder / "experiment", pool, filters=filters, tracking=tracking, seeds=[0, 1]
    )
    done = command("run", experiment, "--work", folder / "work")
    assert done.returncode == 0, done.stderr
    assert "±" in done.stdout
    return experiment, folder / "work"


@pytest.fixture(scope="module")
def graph(finished: tuple[Path, Path]) -> Graph:
    return build_graph(load_experiment(str(finished[0])), finished[1])


def test_the_table_is_the_mean_and_spread_of_the_results(graph: Graph) -> None:
    board = leaderboard(graph)
    averages = {
        (run.filter.name, run.seed): [
            json.loads(line)["metrics"]["main_metric"]
            for line in (run.evaluation.path / "eval_results.jsonl").open()
        ]
        for run in graph.runs
    }
    rows = board.rows()
    for name in ("no_filter", "ensemble"):
        means = [sum(averages[name, seed]) / 2 for seed in (0, 1)]
        assert rows.loc[name, ("Average", "mean")] == pytest.approx(sum(means) / 2)
        assert rows.loc[name, ("Average", "std")] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)


def test_the_csv_reads_back_to_the_same_numbers(graph: Graph) -> None:
    csv = pd.read_csv(graph.folder / "leaderboard.csv").set_index("filter")
    rows = leaderboard(graph).rows()
    for group in leaderboard(graph).groups:
        for part in ("mean", "std"):
            assert csv[f"{group}_{part}"].tolist() == pytest.approx(rows[(group, part)].tolist(), nan_ok=True)


def test_one_seed_has_no_spread(finished: tuple[Path, Path]) -> None:
    done = command("table", finished[0], "--work", finished[1], "--seeds", 1)
    assert done.returncode == 0 and "±" not in done.stdout
    again = command("table", finished[0], "--work", finished[1])
    assert "±" in again.stdout


def test_a_table_without_runs_says_so(finished: tuple[Path, Path], tmp_path: Path) -> None:
    done = command("table", finished[0], "--work", tmp_path / "empty")
    assert done.returncode == 1 and "no run of this experiment is finished" in done.stderr


def test_wandb_has_one_run_a_training_with_loss_scores_and_curation(graph: Graph) -> None:
    files = {run.name: list(graph.work.glob(f"tracking/{run.name}@*/**/*.wandb")) for run in graph.runs}
    assert [len(found) for found in files.values()] == [1, 1, 1, 1]
    results = leaderboard(graph).scores.set_index(["filter", "seed"])
    for run in graph.runs:
        (file,) = files[run.name]
        (header,) = [r.run for r in records(file) if r.WhichOneof("record_type") == "run"]
        assert (header.project, header.run_group, header.display_name) == ("a-test", "small", run.name)
        seen = [step["train/samples_seen"] for step in history(file) if "train/loss" in step]
        assert seen and seen == sorted(set(seen)) and seen[-1] == 64
        found = summary(file)
        assert found["score/Average"] == pytest.approx(results.loc[(run.filter.name, run.seed), "Average"])
        assert found["curation/kept"] == {"no_filter": 24, "ensemble": 9}[run.filter.name]
        assert ("labelling_functions/nrows" in found) == (run.filter.name == "ensemble")


def test_wandbs_own_tool_would_sync_them(graph: Graph) -> None:
    run = next(graph.work.glob("tracking/*/wandb/offline-run-*"))
    tool = Path(sys.executable).with_name("wandb")
    line = [str(tool), "sync", "--dry-run", str(run)]
    done = subprocess.run(line, text=True, capture_output=True, check=False, timeout=60)
    assert "1 run" in done.stdout + done.stderr


def test_no_key_is_in_any_file(graph: Graph) -> None:
    for path in graph.work.rglob("*"):
        assert not path.is_file() or b"k" * 40 not in path.read_bytes(), path


def test_tracking_can_be_switched_off(finished: tuple[Path, Path]) -> None:
    planned = command("plan", finished[0], "--work", finished[1])
    assert "track" in planned.stdout
    document = yaml.safe_load(finished[0].read_text())
    document["tracking"] = {"wandb": "off"}
    off = finished[0].with_name("off.yaml")
    off.write_text(yaml.safe_dump(document))
    assert "track" not in command("plan", off, "--work", finished[1]).stdout


def test_the_report_tells_of_real_trainings(finished: tuple[Path, Path], tmp_path: Path) -> None:
    done = command("report", finished[0], "--work", finished[1], "--out", tmp_path / "report.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Training loss against samples seen, of 4 trainings" in page
    assert 'class="unfinished"' not in page and "data:image/webp" in page
