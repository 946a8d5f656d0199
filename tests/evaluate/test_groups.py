"""An evaluation divided into groups of tasks, and joined again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecodatum.errors import RunError
from ecodatum.evaluate.evaluator import evaluate
from ecodatum.evaluate.groups import divided
from ecodatum.evaluate.record import Record
from ecodatum.evaluate.tasks import Task, load_tasks
from tests.evaluate.tiny_evalsets import Model, make_model, write_labelled

PLAIN = Task(key="plain", name="Plain", data="wds_plain_test")
FEW = Task(key="few", name="Few", data="wds_few_test")


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 10_000)), min_size=1, max_size=20),
    count=st.integers(1, 25),
)
def test_every_task_is_in_one_group_and_no_group_is_empty(sizes: list[tuple[int, int]], count: int) -> None:
    tasks = [
        Task(key=f"t{n}", name=f"T{n}", data=f"folder{folder}", size=size)
        for n, (folder, size) in enumerate(sizes)
    ]
    groups = divided(tasks, count)
    assert sorted(task.key for group in groups for task in group) == sorted(task.key for task in tasks)
    assert all(groups)
    assert len(groups) == min(count, len({task.data for task in tasks}))
    homes = [{task.data for task in group} for group in groups]
    assert sum(map(len, homes)) == len(set().union(*homes))  # no folder is in two groups


def test_datacomps_tasks_are_divided_evenly() -> None:
    groups = divided(load_tasks("datacomp"), 5)
    images = [sum(task.size or 0 for task in group) for group in groups]
    assert max(images) < 1.5 * min(images)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def evalsets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evalsets")
    write_labelled(root / PLAIN.data)
    write_labelled(root / FEW.data, ("red", "green"), seed=1)
    return root


def run(model: Model, evalsets: Path, out: Path, *tasks: Task) -> list[dict[str, Any]]:
    return evaluate(model.config, model.checkpoint, evalsets, tasks, out, device="cpu")


def test_groups_joined_are_the_whole(model: Model, evalsets: Path, tmp_path: Path) -> None:
    whole = run(model, evalsets, tmp_path / "whole", PLAIN, FEW)
    run(model, evalsets, tmp_path / "second", FEW)
    run(model, evalsets, tmp_path / "first", PLAIN)
    parts = [tmp_path / "second", tmp_path / "first"]
    assert Record.join(parts, (PLAIN, FEW), tmp_path / "joined") == 2
    joined, expected = (
        json.loads((tmp_path / place / "eval_info.json").read_text()) for place in ("joined", "whole")
    )
    assert joined == expected
    lines = (tmp_path / "joined" / "eval_results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == whole


def test_parts_that_lack_a_task_are_not_joined(model: Model, evalsets: Path, tmp_path: Path) -> None:
    run(model, evalsets, tmp_path / "first", PLAIN)
    with pytest.raises(RunError, match="no result of few"):
        Record.join([tmp_path / "first"], (PLAIN, FEW), tmp_path / "joined")
    with pytest.raises(RunError, match="cannot be read"):
        Record.join([tmp_path / "first", tmp_path / "second"], (PLAIN, FEW), tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_parts_of_several_checkpoints_are_not_joined(model: Model, evalsets: Path, tmp_path: Path) -> None:
    run(model, evalsets, tmp_path / "first", PLAIN)
    run(model, evalsets, tmp_path / "second", FEW)
    info = json.loads((tmp_path / "second" / "eval_info.json").read_text())
    info["subject"]["checkpoint"] = "another"
    (tmp_path / "second" / "eval_info.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="several checkpoints"):
        Record.join([tmp_path / "first", tmp_path / "second"], (PLAIN, FEW), tmp_path / "joined")
