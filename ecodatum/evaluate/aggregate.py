"""The scores of groups of tasks that DataComp reports, and the average over all tasks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ecodatum.errors import RunError
from ecodatum.evaluate.tasks import Task

#: Groups of tasks under the names that DataComp's tables give them.
GROUPS: Final = {
    "imagenet": "ImageNet",
    "shifts": "ImageNet dist. shifts",
    "vtab": "VTAB",
    "retrieval": "Retrieval",
}


def aggregate(results: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> dict[str, float]:
    """Return the mean main metric of each group of tasks, and of all tasks as `Average`.

    `results` are lines of eval_results.jsonl; a group that has no task is left out. Raises RunError when
    a task with a main metric has no result. Source: DataComp aggregate_scores.py.
    """
    metrics = main_metrics(results, tasks)
    missing = [key for key, value in metrics.items() if math.isnan(value)]
    if missing:
        raise RunError(f"no result for {', '.join(missing)}", todo="evaluate these tasks first")
    return group_means(metrics, tasks)


def main_metrics(results: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> dict[str, float]:
    """Return by key the main metric of each task that has one; NaN where there is no result."""
    by_key = {result["key"]: result["metrics"].get("main_metric") for result in results}
    scored = [task for task in tasks if task.main_metric is not None]
    return {t.key: float(by_key[t.key]) if _is_number(by_key.get(t.key)) else math.nan for t in scored}


def group_means(metrics: Mapping[str, float], tasks: Sequence[Task]) -> dict[str, float]:
    """Return the mean of each group's tasks, and of all as `Average`; NaN where one of them is NaN."""
    scored = [task for task in tasks if task.main_metric is not None]
    scores = {
        label: [metrics[task.key] for task in scored if task.group == group]
        for group, label in GROUPS.items()
    }
    scores["Average"] = [metrics[task.key] for task in scored]
    return {label: math.fsum(values) / len(values) for label, values in scores.items() if values}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
