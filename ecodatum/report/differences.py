"""How far each filter's scores lie from a baseline's, task by task, paired by seed."""

from dataclasses import dataclass

import pandas as pd

from ecodatum.evaluate.aggregate import GROUPS
from ecodatum.report.leaderboard import Leaderboard

_OTHER = "Other"


@dataclass(frozen=True)
class Difference:
    """The mean over the seeds that both have, and the sample standard deviation (NaN for one seed)."""

    mean: float
    spread: float


@dataclass(frozen=True)
class TaskRow:
    """A task: the baseline's mean score, and the difference of each other filter, None without a result."""

    name: str
    metric: str
    baseline: float
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True)
class Differences:
    """A table of tasks by group, each in the order of the task list; filters: the titles of the columns.

    largest: the largest mean difference without its sign.
    """

    baseline: str
    filters: tuple[str, ...]
    groups: tuple[tuple[str, tuple[TaskRow, ...]], ...]
    largest: float


def differences(board: Leaderboard, baseline: str) -> Differences | None:
    """Return the differences to the filter `baseline`; None where it has no finished run, or no other has."""
    runs = board.metrics.set_index([board.scores["filter"], board.scores["seed"]])
    titles = {item.name: item.title for item in board.filters}
    finished = set(board.scores["filter"])
    others = [name for name in titles if name != baseline and name in finished]
    if baseline not in finished or not others:
        return None
    mine = runs.loc[[baseline]].droplevel(0)
    lags: dict[str, pd.DataFrame] = {name: runs.loc[[name]].droplevel(0) - mine for name in others}
    rows: dict[str, list[TaskRow]] = {label: [] for label in (*GROUPS.values(), _OTHER)}
    for task in board.tasks:
        found = tuple(_difference(lags[name][task.key]) for name in others)
        mean = float(mine[task.key].mean())
        label = GROUPS.get(task.group, _OTHER)
        rows[label].append(TaskRow(task.name, task.main_metric or "", mean, found))
    groups = tuple((label, tuple(found)) for label, found in rows.items() if found)
    every = [d.mean for found in rows.values() for row in found for d in row.differences if d]
    largest = max((abs(mean) for mean in every), default=0.0)
    return Differences(titles[baseline], tuple(titles[name] for name in others), groups, largest)


def _difference(by_seed: "pd.Series[float]") -> Difference | None:
    paired = by_seed.dropna()
    return Difference(float(paired.mean()), float(paired.std())) if len(paired) else None
