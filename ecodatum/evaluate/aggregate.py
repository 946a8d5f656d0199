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
    by_key = {result["key"]: result["metrics"].get("main_metric") for result in results}
    scored = [task for task in tasks if task.main_metric is not None]
    missing = [task.key for task in scored if not _is_number(by_key.get(task.key))]
    if missing:
        raise RunError(f"no result for {', '.join(missing)}", todo="evaluate these tasks first")
    scores = {
        label: [by_key[task.key] for task in scored if task.group == group] for group, label in GROUPS.items()
    }
    scores["Average"] = [by_key[task.key] for task in scored]
    return {label: math.fsum(values) / len(values) for label, values in scores.items() if values}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
