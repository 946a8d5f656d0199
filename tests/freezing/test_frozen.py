"""Frozen runs: what is in the file, that it is enough, and that verify says exactly what differs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ecodatum.errors import ConfigError, RunError
from ecodatum.freezing import frozen as freezing
from ecodatum.freezing.frozen import Frozen, freeze, read_frozen, thaw, unpack
from ecodatum.freezing.verification import CHECKS, curate_again, other_software, verify
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import build_graph
from ecodatum.pipeline.units import Outcome, Unit
from tests.conftest import write_pool
from tests.pipeline import small_experiment
from tests.submission.small_scale_run import RUN, change_json, graph_of, make_run, write_experiment


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an experiment, small.yaml, its run in `work`, and that frozen."""
    folder = tmp_path_factory.mktemp("small")
    make_run(write_experiment(folder), folder / "work")
    freeze(graph_of(folder / "small.yaml", folder / "work"), RUN).write(folder / "run.json")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to change."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def differences(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what verify finds, the pool and the sets being those of the same folder."""
    frozen = read_frozen(folder / "run.json")
    found = verify(frozen, folder / "work", pool=folder / "pool", data=folder / "evalsets")
    assert [finding.name for finding in found] == list(CHECKS)
    return {finding.name: finding.differences for finding in found if finding.differences}


def test_a_run_as_it_was_frozen_differs_in_nothing(made: Path) -> None:
    assert differences(made) == {}
    told = other_software(read_frozen(made / "run.json"))
    assert [line for line in told if not line.startswith("commit is")] == []


def test_a_run_that_moved_with_its_pool_differs_in_nothing(copy: Path, made: Path) -> None:
    assert differences(copy) == {}


def test_the_file_has_all_that_made_the_run(made: Path) -> None:
    frozen = read_frozen(made / "run.json")
    assert frozen.seeds == {"training": 0} and frozen.placement == ("cpu", 1)
    assert yaml.safe_load(frozen.files["recipe.yaml"])["rules"][0]["at_least"]["top"] == 0.5
    assert {"numpy", "torch", "pyarrow"} <= set(frozen.software.packages)
    assert frozen.pool.rows == 48 and len(frozen.pool.parts) == 2
    assert {"subset", "checkpoint", "results"} == set(frozen.outputs)
    assert all(len(state.sha256) == 64 for state in frozen.outputs.values())
    stages = {name.split()[0] for name in frozen.units}
    assert stages == {"score", "calibrate", "select", "reshard", "train", "evaluate"}
    assert 0 < frozen.scores["Average"] < 1


def test_unpacked_it_plans_the_same_run(made: Path, tmp_path: Path) -> None:
    frozen = read_frozen(made / "run.json")
    path = unpack(frozen, tmp_path / "thawed")
    graph = build_graph(load_experiment(str(path)), made / "work", device="cpu")
    assert [run.name for run in graph.runs] == [RUN]
    assert all(unit.done() for unit in graph.units)


class Quiet:
    """Shows nothing."""

    def start(self, stage: str, units: Sequence[Unit], cached: int) -> None: ...
    def advance(self, done: int, total: int, of: str) -> None: ...
    def end(self, stage: str, outcomes: Sequence[Outcome]) -> None: ...


def test_curated_again_the_subset_has_the_same_bytes(made: Path, tmp_path: Path) -> None:
    frozen = read_frozen(made / "run.json")
    again = curate_again(frozen, tmp_path / "again", jobs=0, reporter=Quiet)
    assert again.differences == ()
    states = {**frozen.outputs, "subset": frozen.outputs["results"]}
    other = frozen.model_copy(update={"outputs": states})
    assert "sha256" in curate_again(other, tmp_path / "again", jobs=0, reporter=Quiet).said


@dataclass(frozen=True)
class Change:
    """A change, what verify finds it in, and what it says."""

    change: Callable[[Path], Any]
    what: str
    said: str


def of(pattern: str, change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Return a change of the one file in the work folder that a pattern finds."""

    def apply(folder: Path) -> None:
        (path,) = (folder / "work").glob(pattern)
        change(path)

    return apply


def edit(path: Path) -> None:
    """Change a file's last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def new_caption(folder: Path) -> None:
    import pyarrow.parquet as pq

    path = min((folder / "pool" / "metadata").glob("*.parquet"))
    table = pq.read_table(path)
    column = table.column("text").to_pylist()
    column[0] = "another caption"
    pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", [column]), path)


def lower_result(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[11]["metrics"] |= {"acc1": 0.0, "main_metric": 0.0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


CHANGES = {
    "pool's metadata": Change(new_caption, "pool", r"part 0+: metadata are not the same"),
    "pool's shards": Change(
        lambda f: edit(min((f / "pool" / "shards").glob("*.tar"))),
        "pool",
        r"part 0+: shards are not the same",
    ),
    "fingerprints follow the pool": Change(new_caption, "fingerprints", r"score .* metadata is \w+, and was"),
    "evaluation sets": Change(
        lambda f: edit(next((f / "evalsets").glob("*/classnames.txt"))),
        "fingerprints",
        "evaluate .* is .*, and",
    ),
    "subset": Change(
        of("filters/*/subset@*.npy", lambda p: np.save(p, np.load(p)[1:])),
        "files",
        "subset: 512 bytes, and there were 528",
    ),
    "checkpoint": Change(
        of("trainings/*/training/checkpoints/epoch_latest.pt", edit), "files", "checkpoint: sha256 is"
    ),
    "checkpoint, in its manifest": Change(
        of("trainings/*/training/checkpoints/epoch_latest.pt", edit),
        "manifests",
        "train .*content: training/checkpoints/epoch_latest.pt",
    ),
    "results": Change(
        of("evaluations/*/eval_results.jsonl", lower_result), "scores", "ImageNet is 0.0, and was 0."
    ),
    "results gone": Change(
        of("evaluations/*/eval_results.jsonl", Path.unlink),
        "files",
        "results: no file",
    ),
    "manifest": Change(
        of("trainings/*.manifest.json", lambda p: change_json(p, "parameters", "seed", value=3)),
        "manifests",
        "parameters: seed is 0, where its manifest has 3",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_told(name: str, copy: Path) -> None:
    change = CHANGES[name]
    change.change(copy)
    found = differences(copy)
    assert any(re.search(change.said, said) for said in found.get(change.what, ())), found


def test_a_frozen_file_that_was_edited_is_refused(copy: Path) -> None:
    change_json(copy / "run.json", "scores", "Average", value=0.9)
    with pytest.raises(ConfigError, match="changed after it was written"):
        read_frozen(copy / "run.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": "x", "run": 3}', "\0"])
def test_what_is_no_frozen_run_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"no\.json"):
        read_frozen(path)


def test_other_software_is_told_and_is_no_difference(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = read_frozen(made / "run.json")
    packages = {**frozen.software.packages, "numpy": "1.0", "gone": "2.0"}
    older = frozen.software.model_copy(update={"packages": packages, "commit": "abc"})
    told = other_software(frozen.model_copy(update={"software": older}))
    assert any(line.startswith("numpy is ") and line.endswith("and was 1.0") for line in told)
    assert "gone is absent, and was 2.0" in told and any(line.startswith("commit is") for line in told)


def test_a_run_that_is_not_finished_is_not_frozen(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be frozen: score .* has not been made"):
        freeze(graph_of(made / "small.yaml", tmp_path / "work"), RUN)


def test_a_run_whose_files_were_changed_is_not_frozen(copy: Path) -> None:
    of("filters/*/subset@*.npy", lambda path: np.save(path, np.load(path)[1:]))(copy)
    with pytest.raises(RunError, match="cannot be frozen: select"):
        freeze(graph_of(made_of(copy), copy / "work"), RUN)


def made_of(copy: Path) -> Path:
    """Return the copied experiment's file, over the copied pool."""
    path = copy / "small.yaml"
    document = yaml.safe_load(path.read_text())
    document |= {"pool": str(copy / "pool"), "evaluate": {"data": str(copy / "evalsets")}}
    path.write_text(yaml.safe_dump(document))
    return path


def test_an_ensemble_at_a_scale_of_ones_own_is_planned_alike(tmp_path: Path) -> None:
    """Its recipe, scale, model, vocabulary and tasks are in the file; its weights by their sha256."""
    pool = write_pool(tmp_path / "pool", 24, 1, {})
    path = small_experiment.write_experiment(tmp_path / "experiment", pool)
    graph = build_graph(load_experiment(str(path), seeds=(0, 1)), tmp_path / "work", device="cpu")
    run = next(run for run in graph.runs if run.name == "ensemble-seed1")
    files = freezing._files(graph, run.filter.recipe)
    assert {"recipe.yaml", "scale.yaml", "tasks.yaml", "tiny-clip.json", "bpe.txt.gz"} == set(files)
    document = {
        "run": run.name,
        "experiment": freezing._experiment(graph, run),
        "files": files,
        "placement": ("cpu", 1),
        "seeds": {},
        "software": freezing.software(),
        "pool": freezing.pool_state(graph),
        "assets": {},
        "units": {},
        "outputs": {},
        "scores": {},
    }
    alone = thaw(Frozen.model_validate(document), tmp_path / "thawed", tmp_path / "work")
    (thawed,) = alone.runs
    assert thawed.evaluation == run.evaluation and thawed.subset == run.subset
    assert len(freezing.asset_sums(alone)["clip.weights"]) == 1


def test_from_the_command_line(made: Path, copy: Path, tmp_path: Path) -> None:
    def ecodatum(*arguments: object) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        line = [sys.executable, "-m", "ecodatum", *map(str, arguments)]
        return subprocess.run(line, text=True, capture_output=True, env=environment, check=False, timeout=600)

    out = tmp_path / "frozen.json"
    work = ("--work", made / "work")
    written = ecodatum("freeze", made / "small.yaml", RUN, *work, "--device", "cpu", "--out", out)
    assert written.returncode == 0 and "8 steps" in written.stdout, written.stderr
    assert ecodatum("verify", out, *work).returncode == 0
    of("filters/*/subset@*.npy", edit)(copy)
    differs = ecodatum("verify", out, "--work", copy / "work")
    assert differs.returncode == 1 and "subset: sha256 is" in differs.stdout
    assert ecodatum("freeze", made / "small.yaml", "clip_score", *work).returncode == 1
