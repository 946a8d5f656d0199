"""Aggregates over groups of tasks."""

import math
from typing import Any

import pytest

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.evaluate.tasks import Task

TASKS = (
    Task(key="a", name="A", group="imagenet"),
    Task(key="b", name="B", group="vtab"),
    Task(key="c", name="C", group="vtab"),
    Task(key="d", name="D", group="other"),
    Task(key="e", name="E", kind="faces", main_metric=None),
)


def line(key: str, score: float | None) -> dict[str, Any]:
    return {"key": key, "dataset": key.upper(), "metrics": {"main_metric": score}}


SCORES = [line("a", 0.1), line("b", 0.2), line("c", 0.4), line("d", 0.5), line("e", None)]


def test_a_group_is_the_mean_of_its_tasks_and_the_average_is_over_all() -> None:
    scores = aggregate(SCORES, TASKS)
    assert scores == pytest.approx({"ImageNet": 0.1, "VTAB": 0.3, "Average": 0.3})


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_task_without_a_score_is_an_error(score: float | None) -> None:
    with pytest.raises(RunError, match="no result for b"):
        aggregate([line("b", score) if entry["key"] == "b" else entry for entry in SCORES], TASKS)
