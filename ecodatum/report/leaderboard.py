"""The leaderboard of an experiment: the scores of its finished runs, and what is missing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import group_means, main_metrics
from ecodatum.evaluate.tasks import Task
from ecodatum.fingerprint import fingerprint
from ecodatum.pipeline.experiment import Experiment, Filter
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.training_jobs import read_results
from ecodatum.train.scales import Scale


@dataclass(frozen=True)
class Leaderboard:
    """The finished runs of an experiment.

    scores: a row a run: filter, title, seed, size, and a column for each group; NaN where a task of the
    group has no result. metrics: a row a run, as in `scores`, a column a task's key: its main metric.
    tasks: those with a main metric. filters: all, in the experiment's order. unfinished: by filter, the
    seeds that are not there, of those that have any. unreadable: runs whose results are damaged.
    versions: of the package that evaluated the runs. runs: a fingerprint of all that is in the table.
    """

    scores: pd.DataFrame
    metrics: pd.DataFrame
    groups: tuple[str, ...]
    tasks: tuple[Task, ...]
    filters: tuple[Filter, ...]
    unfinished: Mapping[str, tuple[int, ...]]
    unreadable: tuple[str, ...]
    experiment: Experiment
    scale: Scale
    versions: tuple[str, ...]
    runs: str

    @property
    def title(self) -> str:
        """What the experiment is called."""
        return self.experiment.title or self.experiment.name

    def rows(self) -> pd.DataFrame:
        """Return a row per filter that has runs, with (group, mean|std) columns, title, size and `seeds`.

        The order is the experiment's. std is the sample standard deviation over seeds, NaN for one seed;
        a run without a group's score is left out of that group's mean and std.
        """
        grouped = self.scores.groupby("filter", sort=False)
        table = grouped[list(self.groups)].agg(["mean", "std"])
        table.insert(0, ("size", ""), grouped["size"].first())
        table.insert(0, ("title", ""), grouped["title"].first())
        table[("seeds", "")] = grouped["seed"].count()
        return table.loc[[item.name for item in self.filters if item.name in table.index]]

    def every_row(self) -> pd.DataFrame:
        """Return `rows()`, and for each filter of which nothing is finished one with 0 seeds and NaN."""
        table = self.rows().reindex(pd.Index([item.name for item in self.filters], name="filter"))
        table[("title", "")] = [item.title for item in self.filters]
        table[("size", "")] = table[("size", "")].astype("Int64")
        table[("seeds", "")] = table[("seeds", "")].fillna(0).astype(int)
        return table

    def spreads(self, group: str) -> dict[str, tuple[float, float]]:
        """Return by filter a group's mean and standard deviation over seeds; NaN where there is none."""
        rows = self.every_row()
        return {
            str(name): (float(mean), float(std))
            for name, mean, std in zip(rows.index, rows[(group, "mean")], rows[(group, "std")], strict=True)
        }

    def counts(self) -> pd.DataFrame:
        """Return how many runs of a filter each group's mean is over: a row a filter, a column a group."""
        counts = self.scores.groupby("filter", sort=False)[list(self.groups)].count()
        return counts.reindex([item.name for item in self.filters], fill_value=0)

    def unscored(self) -> dict[str, list[str]]:
        """Return the names of the tasks without a result, by the run that lacks them."""
        found = {}
        for run, metrics in zip(self.scores.to_dict("records"), self.metrics.to_dict("records"), strict=True):
            absent = [task.name for task in self.tasks if math.isnan(metrics[task.key])]
            if absent:
                found[f"{run['title']}, seed {run['seed']}"] = absent
        return found


def leaderboard(graph: Graph) -> Leaderboard:
    """Collect the finished runs of an experiment.

    Raises RunError when none is finished.
    """
    tasks = tuple(task for task in graph.tasks if task.main_metric is not None)
    rows: list[dict[str, object]] = []
    metrics: list[dict[str, float]] = []
    finished: list[Run] = []
    unreadable: list[str] = []
    for run in graph.runs:
        if not (run.evaluation.done() and run.subset.done()):
            continue
        try:
            values = main_metrics(read_results(run.evaluation.path), tasks)
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(f"{run.filter.title}, seed {run.seed} ({run.evaluation.path})")
            continue
        metrics.append(values)
        rows.append(_row(run, values, tasks))
        finished.append(run)
    if not rows:
        raise RunError(
            f"no run of this experiment is finished{_damage(unreadable)}",
            where=graph.experiment.name,
            todo="run it: ecodatum run EXPERIMENT",
        )
    return Leaderboard(
        scores=pd.DataFrame(rows),
        metrics=pd.DataFrame(metrics),
        groups=tuple(group_means(metrics[0], tasks)),
        tasks=tasks,
        filters=tuple({run.filter.name: run.filter for run in graph.runs}.values()),
        unfinished=_unfinished(graph.runs, finished),
        unreadable=tuple(unreadable),
        experiment=graph.experiment,
        scale=graph.scale,
        versions=tuple(sorted({_version(run) for run in finished})),
        runs=fingerprint(sorted([run.name, run.evaluation.fingerprint] for run in finished)),
    )


def _row(run: Run, metrics: Mapping[str, float], tasks: tuple[Task, ...]) -> dict[str, object]:
    return {
        "filter": run.filter.name,
        "title": run.filter.title,
        "seed": run.seed,
        "size": run.subset.read()["counts"]["kept"],
        **group_means(metrics, tasks),
    }


def _unfinished(runs: Iterable[Run], finished: list[Run]) -> dict[str, tuple[int, ...]]:
    there = {run.name for run in finished}
    missing: dict[str, tuple[int, ...]] = {}
    for run in runs:
        if run.name not in there:
            missing[run.filter.name] = (*missing.get(run.filter.name, ()), run.seed)
    return missing


def _version(run: Run) -> str:
    return str(run.evaluation.read().get("versions", {}).get("ecodatum", "of unknown version"))


def _damage(unreadable: list[str]) -> str:
    return f"; results that cannot be read: {'; '.join(unreadable)}" if unreadable else ""
