"""`ecodatum submit` up to the sending: what it shows, the bundle, and what is remembered of an attempt."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ecodatum.cli.app import app
from ecodatum.datacomp.layer.submission import DATABASE, HUB, NOTIFICATION
from ecodatum.errors import ConfigError, RunError
from ecodatum.submission.bundle import Bundle, Details, record, write_bundle
from ecodatum.submission.entry import Entry, entry_of_run
from ecodatum.submission.sending import arrived, destinations, send
from tests.submission.small_scale_run import RUN, graph_of, make_run, param_of, write_experiment

DETAILS = Details("CLIP score", "A. Name", "a@example.org", "someone", "repo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    make_run(write_experiment(folder), folder / "work")
    return folder


@pytest.fixture(scope="module")
def entry(made: Path) -> Entry:
    return entry_of_run(graph_of(made / "small.yaml", made / "work"), RUN)


@pytest.fixture
def bundle(entry: Entry, tmp_path: Path) -> Bundle:
    return write_bundle(entry, DETAILS, tmp_path)


def submit(experiment: Path, work: Path, *more: str) -> Any:
    line = ["submit", str(experiment), RUN, "--work", str(work), "--device", "cpu", *more]
    return CliRunner().invoke(app, line, env={"COLUMNS": "200"})


GIVEN = [
    *("--method-name", "CLIP score", "--author", "A. Name", "--email", "a@example.org"),
    *("--hf-username", "someone", "--hf-repo-name", "repo"),
]


def test_without_details_it_is_checked_and_shown_and_nothing_is_written(made: Path) -> None:
    done = submit(made / "small.yaml", made / "work")
    assert done.exit_code == 0, done.output
    assert "0.0005" in done.output and "small_scale/results.jsonl" in done.output
    assert "nothing was written" in done.output
    assert not (made / "work" / "leaderboard").exists()


def test_without_yes_the_bundle_is_written_and_nothing_is_sent(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "work", tmp_path / "work")
    done = submit(made / "small.yaml", tmp_path / "work", *GIVEN, "--upload-checkpoint")
    assert done.exit_code == 0, done.output
    assert "nothing was sent" in done.output and "small_scale/checkpoint.pt" in done.output
    (folder,) = (tmp_path / "work" / "leaderboard").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "info.pkl",
        "eval_results.jsonl",
        f"{RUN}.npy",
        "bundle.json",
    }
    assert arrived(folder) == {}


def test_yes_needs_the_details(made: Path) -> None:
    done = submit(made / "small.yaml", made / "work", "--yes", *GIVEN[:4])
    assert isinstance(done.exception, ConfigError)
    assert "--email, --hf-username, --hf-repo-name" in str(done.exception)


def test_a_refused_run_is_shown_with_its_reasons_and_not_bundled(made: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(made / "work", work)
    param_of(next(work.glob("trainings/*/training")), "batch_size", 8192)
    done = submit(made / "small.yaml", work, *GIVEN, "--yes")
    assert isinstance(done.exception, RunError)
    assert "the batch is 8192 samples, where the scale has 4096" in str(done.exception)
    assert not (work / "leaderboard").exists()


def test_a_scale_without_a_leaderboard_is_refused(made: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    document = yaml.safe_load((made / "small.yaml").read_text())
    document["train"]["scale"] = "debug"
    other = tmp_path / "debug.yaml"
    other.write_text(yaml.safe_dump(document))
    make_run(other, work)
    done = submit(other, work)
    assert isinstance(done.exception, RunError)
    assert "the scale 'debug' has no place on the leaderboard" in str(done.exception)


@pytest.mark.parametrize("name", ["clip_score", "seed0", "-seed0", "clip_score-seedX"])
def test_what_is_no_runs_name_is_an_error(name: str, made: Path) -> None:
    done = CliRunner().invoke(app, ["submit", str(made / "small.yaml"), "--", name])
    assert isinstance(done.exception, ConfigError) and "no run's name" in str(done.exception)


@pytest.mark.parametrize("line", [["submit"], ["submit", "--training", "x"]])
def test_what_is_to_be_submitted_has_to_be_said(line: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, line).exception, ConfigError)


def test_the_record_has_evaluate_pys_fields(entry: Entry) -> None:
    found = record(entry, DETAILS)
    assert (found["scale"], found["track"], found["batch_size"]) == ("small", "filtering", 4096)
    assert found["dataset_size"] == str(len(np.load(entry.subset)))
    assert found["method_name"] == "CLIP score" and found["writeup"] is None
    assert "FairFace" not in found and 0 < found["ImageNet 1k"] < 1
    assert record(entry, None)["author"] is None


def test_a_bundle_is_written_once(bundle: Bundle, entry: Entry, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_bundle(entry, DETAILS, tmp_path) == bundle
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    other = write_bundle(entry, replace(DETAILS, hf_repo_name="another"), tmp_path)
    assert other.folder != bundle.folder  # what was sent to one place was not sent to another


def edit_note(folder: Path) -> None:
    note = json.loads((folder / "bundle.json").read_text())
    note["record"]["ImageNet 1k"] = 0.99
    (folder / "bundle.json").write_text(json.dumps(note))


TAMPERINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "results": (
        lambda f: (f / "eval_results.jsonl").write_text((f / "eval_results.jsonl").read_text() + " "),
        "was changed after it was written: eval_results.jsonl",
    ),
    "samples": (
        lambda f: np.save(f / f"{RUN}.npy", np.load(f / f"{RUN}.npy")[1:]),
        f"was changed after it was written: {RUN}.npy",
    ),
    "info": (
        lambda f: (f / "info.pkl").write_bytes(b"x"),
        "was changed after it was written: info.pkl",
    ),
    "record": (edit_note, "was changed after it was written: bundle.json"),
    "a file missing": (lambda f: (f / "info.pkl").unlink(), "cannot be read"),
    "note missing": (lambda f: (f / "bundle.json").unlink(), "cannot be read"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_bundle_that_was_tampered_with_is_refused(
    name: str, bundle: Bundle, entry: Entry, tmp_path: Path
) -> None:
    change, reason = TAMPERINGS[name]
    change(bundle.folder)
    with pytest.raises(RunError, match=reason):
        write_bundle(entry, DETAILS, tmp_path)


def test_what_has_arrived_is_remembered(bundle: Bundle) -> None:
    notes = [
        {"step": HUB, "state": "begun", "at": "2026-01-01T00:00:00+00:00"},
        {"step": HUB, "state": "arrived", "at": "2026-01-01T00:00:09+00:00", "told": "1234"},
        {"step": DATABASE, "state": "refused", "at": "2026-01-01T00:00:10+00:00", "told": "HTTP 500"},
    ]
    cut = '{"step": "notification", "state": "arri'
    (bundle.folder / "sent.jsonl").write_text("".join(json.dumps(n) + "\n" for n in notes) + cut)
    assert arrived(bundle.folder) == {HUB: "2026-01-01T00:00:09+00:00"}


def test_other_places_to_send_to_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("ECODATUM_LEADERBOARD", "http://127.0.0.1:2")
    assert destinations() == {
        HUB: "http://127.0.0.1:1",
        DATABASE: "http://127.0.0.1:2",
        NOTIFICATION: "http://127.0.0.1:2",
    }


def test_nothing_is_sent_without_the_pinned_scripts(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATACOMP_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(Exception, match="ecodatum datacomp install"):
        send(bundle)
