"""W&B's offline runs, read back: tables, galleries, artifacts, and what becomes of one that is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ecodatum.fingerprint import file_fingerprint
from ecodatum.pipeline.execution import run_unit
from ecodatum.pipeline.graph import Graph
from ecodatum.report.tracking import tracking_units
from tests.report.wandb_file import history, records, summary
from tests.submission.small_scale_run import RUN, graph_of, make_run, write_experiment

KEY = "k" * 40
LOG = (
    "2026-01-01,00:00:00 | INFO | Train Epoch: 0 [{seen:>9}/12861440 (1%)] Data (t): 0.1 Batch (t): 0.1, "
    "4000.0/s, 500.0/s/gpu LR: 0.000001 Logit Scale: 20.869 Contrastive_loss: 3.1 (3.2) Loss: 3.1 (3.2)\n"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an experiment that is tracked, and its run, as yet without tracking."""
    folder = tmp_path_factory.mktemp("tracked")
    experiment = write_experiment(folder)
    make_run(experiment, folder / "work")
    experiment.write_text(experiment.read_text().replace("wandb: 'off'", "wandb: offline"))
    return folder


@pytest.fixture(scope="module")
def graph(made: Path) -> Graph:
    """Return the graph of a copy of the run that is tracked."""
    shutil.copytree(made / "work", made / "tracked")
    found = graph_of(made / "small.yaml", made / "tracked")
    (unit,) = tracking_units(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        outcome = run_unit(unit)
        assert "WANDB_DATA_DIR" not in os.environ
    assert outcome.status == "ran", outcome.message
    assert run_unit(unit).status == "done"
    return found


@pytest.fixture(scope="module")
def file(graph: Graph) -> Path:
    return only(graph.work)


def only(work: Path) -> Path:
    """Return the only offline run of a work folder."""
    (found,) = work.glob("tracking/*/wandb/offline-run-*/*.wandb")
    return found


def artifacts(file: Path) -> dict[str, Any]:
    found = [r.artifact for r in records(file) if r.WhichOneof("record_type") == "artifact"]
    assert len({artifact.name for artifact in found}) == len(found)
    return {artifact.name: artifact for artifact in found}


def table(file: Path, name: str) -> list[dict[str, Any]]:
    (artifact,) = [a for a in artifacts(file).values() if a.name.endswith(f"-{name}")]
    (content,) = [c for c in artifact.manifest.contents if c.path.endswith(".table.json")]
    document = json.loads(Path(content.local_path).read_text())
    return [dict(zip(document["columns"], row, strict=True)) for row in document["data"]]


def test_the_tasks_are_a_table_with_their_groups(graph: Graph, file: Path) -> None:
    rows = {row["task"]: row for row in table(file, "tasks")}
    assert len(rows) == 40
    assert (rows["ImageNet-A"]["group"], rows["ImageNet-A"]["metric"]) == ("shifts", "acc1")
    assert rows["FairFace"]["main_metric"] is None
    results = map(json.loads, (graph.runs[0].evaluation.path / "eval_results.jsonl").open())
    for line in results:
        assert rows[line["dataset"]]["main_metric"] == line["metrics"]["main_metric"]


def test_the_gallery_shows_what_was_kept_and_dropped(graph: Graph, file: Path) -> None:
    rows = table(file, "gallery")
    assert {row["filter's choice"] for row in rows} == {"kept", "dropped"}
    assert all(row["caption"].startswith("a photo of a") and row["votes"] for row in rows)
    with_image = [row for row in rows if row["image"]]
    assert len(with_image) >= len(rows) - 2  # two links are dead
    (artifact,) = [a for a in artifacts(file).values() if a.name.endswith("-gallery")]
    images = {c.path: Path(c.local_path) for c in artifact.manifest.contents if c.path.endswith(".png")}
    assert {row["image"]["path"] for row in with_image} == set(images)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in images.values())
    assert sum(path.stat().st_size for path in images.values()) < 1 << 20


def test_subset_and_results_are_artifacts_that_lie_where_they_were_made(graph: Graph, file: Path) -> None:
    (run,) = graph.runs
    found = artifacts(file)
    subset, results = found["clip_score-subset"], found[f"{RUN}-results"]
    assert (subset.type, results.type) == ("subset", "results")
    assert [Path(c.local_path) for c in subset.manifest.contents] == [run.subset.path]
    by_name = {c.path: Path(c.local_path) for c in results.manifest.contents}
    assert by_name["eval_results.jsonl"] == run.evaluation.path / "eval_results.jsonl"
    told = json.loads(results.metadata)
    assert told["subset"] == "clip_score-subset" and told["subset_fingerprint"] == run.subset.fingerprint
    assert told["training_fingerprint"] == run.training.fingerprint and 0 < told["Average"] < 1


def test_all_that_will_be_sent_lies_in_the_work_folder(graph: Graph, file: Path) -> None:
    for artifact in artifacts(file).values():
        for content in artifact.manifest.contents:
            assert Path(content.local_path).is_relative_to(graph.work)
            assert Path(content.local_path).is_file()


def test_the_summary_has_curation_and_scores(file: Path) -> None:
    found = summary(file)
    assert (found["curation/rows"], found["curation/kept"]) == (48, 25)
    assert 0 < found["score/Average"] < 1


def test_the_key_is_in_no_file(graph: Graph) -> None:
    for path in graph.work.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_killed_while_it_tracks_it_is_tracked_once(made: Path) -> None:
    work = made / "killed"
    shutil.copytree(made / "work", work)
    log = next(work.glob("trainings/*/training/out.log"))
    points = 4000
    log.write_text("".join(LOG.format(seen=(i + 1) * 3200) for i in range(points)))
    line = [sys.executable, "-m", "ecodatum", "run", str(made / "small.yaml"), "--work", str(work)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_API_KEY": KEY}
    environment.pop("WANDB_SERVICE", None)  # of this process: it would outlive the one that is killed

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*line, "--device", "cpu"],
            text=True,
            env=environment,
            process_group=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    process = start()
    deadline = time.monotonic() + 300
    while not any(
        f.stat().st_size > 20_000 for f in work.glob("tracking/*.tmp-*/wandb/offline-run-*/*.wandb")
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(work.glob("tracking/*.manifest.json"))
    again = start()
    _, wrong = again.communicate(timeout=600)
    assert again.returncode == 0, wrong
    file = only(work)  # nothing of the first attempt is left to be sent
    seen = [step["train/samples_seen"] for step in history(file) if "train/loss" in step]
    assert len(seen) == len(set(seen)) == points
    steps = [step["_step"] for step in history(file)]
    assert steps == sorted(set(steps))
    assert {"clip_score-subset", f"{RUN}-results"} <= set(artifacts(file))
    (staged,) = (work / "tracking" / "artifacts").iterdir()
    assert file_fingerprint(file) and staged.name in file.name  # the id is the same as before


def test_a_second_tracking_has_the_same_id_and_steps(made: Path, graph: Graph, file: Path) -> None:
    (unit,) = tracking_units(graph)
    before = [(step["_step"], step.get("train/samples_seen")) for step in history(file)]
    name, artifacts_before = file.name, sorted(artifacts(file))
    unit.output.manifest.unlink()
    assert run_unit(unit).status == "ran"
    again = only(graph.work)
    assert again.name == name and sorted(artifacts(again)) == artifacts_before
    assert [(step["_step"], step.get("train/samples_seen")) for step in history(again)] == before
