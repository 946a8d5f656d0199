"""Divides an evaluation into groups of tasks that cost about the same, one for each array task."""

from collections.abc import Sequence
from typing import Final

from ecodatum.evaluate.tasks import Task

#: What a class's prompts cost, in images: DataComp's sets have some tens of prompts a class.
_IMAGES_A_CLASS: Final = 20
_UNKNOWN_SIZE: Final = 5000


def divided(tasks: Sequence[Task], count: int) -> list[tuple[Task, ...]]:
    """Return at most `count` groups of about equal cost, each in the tasks' order.

    Tasks over the same folder stay together, since its images are encoded once. No group is empty.
    """
    folders: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        folders.setdefault(task.data, []).append(index)
    groups: list[list[int]] = [[] for _ in range(min(count, len(folders)))]
    costs = [0] * len(groups)
    for members in sorted(folders.values(), key=lambda own: -_cost([tasks[i] for i in own])):
        cheapest = costs.index(min(costs))
        groups[cheapest] += members
        costs[cheapest] += _cost([tasks[i] for i in members])
    return [tuple(tasks[i] for i in sorted(group)) for group in groups]


def _cost(tasks: Sequence[Task]) -> int:
    """Return about how much work tasks over one folder are, in images."""
    images = max(task.size or _UNKNOWN_SIZE for task in tasks)
    return images + sum(_IMAGES_A_CLASS * (task.classes or 0) for task in tasks)
