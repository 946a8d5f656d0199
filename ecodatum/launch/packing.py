"""Packs items into array tasks, and tasks into arrays, so that a cluster's limits are kept."""

from collections.abc import Sequence
from typing import TypeVar

from ecodatum.errors import ConfigError

Item = TypeVar("Item")


def items_per_task(counts: Sequence[int], most: Sequence[int | None], max_tasks: int) -> list[int]:
    """Return how many items a task of each group gets, as few as `max_tasks` tasks in all allow.

    counts: the items of each group. most: the most items that a task of a group may get, or None.
    Raises ConfigError when even the most make too many tasks.
    """
    low, high = 1, max(counts, default=1)
    while low < high:
        middle = (low + high) // 2
        if _tasks(counts, most, middle) <= max_tasks:
            high = middle
        else:
            low = middle + 1
    needed = _tasks(counts, most, low)
    if needed > max_tasks:
        raise ConfigError(
            f"{needed:,} tasks are needed, and of the profile's max_tasks {max(0, max_tasks):,} are free",
            where="--cluster",
            todo="raise max_tasks, or `units` of stages with many units, or wait for what is in the queue",
        )
    return [min(low, limit or low) for limit in most]


def _tasks(counts: Sequence[int], most: Sequence[int | None], share: int) -> int:
    return sum(-(-count // min(share, limit or share)) for count, limit in zip(counts, most, strict=True))


def pack(items: Sequence[Item], per_task: int, max_array_size: int) -> list[list[list[Item]]]:
    """Return arrays of tasks of items, in order; no array has more than `max_array_size` - 1 tasks.

    The largest index that Slurm takes is MaxArraySize - 1; the last one is left unused, for round numbers.
    Tasks get numbers of items that differ by one at most.
    """
    count = -(-len(items) // per_task)
    tasks = [list(items[len(items) * i // count : len(items) * (i + 1) // count]) for i in range(count)]
    size = max_array_size - 1
    return [tasks[start : start + size] for start in range(0, count, size)]
