"""The tables of an experiment, as people read them: scores, published numbers, significance, every task."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ecodatum.report import cells, remarks
from ecodatum.report.formats import Table
from ecodatum.report.leaderboard import Leaderboard
from ecodatum.report.significance import RESAMPLES


def score_table(board: Leaderboard, beside: pd.DataFrame, others: pd.DataFrame) -> Table:
    """Return a row a filter, a column a group of tasks.

    beside: `against_published`; if it has rows, columns tell the published average and the difference.
    others: `not_run`, whose rows come last, with numbers that cite their sources.
    """
    header = ["Filter", "Dataset size", *board.groups]
    header += ["Published", "Difference", "Within noise"] * bool(len(beside))
    sizes, spreads = board.every_row()["size"], {group: board.spreads(group) for group in board.groups}
    averages = {row["filter"]: row for row in _records(beside) if row["group"] == "Average"}
    rows = []
    for item in board.filters:
        row = [item.title, cells.samples(sizes[item.name])]
        row += [cells.score(*spreads[group][item.name]) for group in board.groups]
        rows.append(tuple(row + _published(averages.get(item.name)) * bool(len(beside))))
    cited, sources = _cited(board, others, len(header))
    notes = ["Dataset size: samples that the filter keeps.", *remarks.best(board)]
    notes += remarks.noise(beside.loc[beside["changed"].astype(bool), "title"]) if len(beside) else []
    notes += [f"Published, not run here: {'; '.join(sources)}."] if sources else []
    notes += remarks.marks((*rows, *cited))
    if not board.scale.comparable:
        notes.append(f"Scale {board.scale.name} is not one of DataComp's: no published number compares.")
    means = pd.DataFrame(
        {group: {name: s[0] for name, s in spreads[group].items()} for group in board.groups}
    )
    return Table(
        label=board.experiment.name,
        title=board.title,
        caption=remarks.caption(board),
        header=tuple(header),
        align="l" + "r" * (len(header) - 1),
        rows=(*rows, *cited),
        best=frozenset((row, column + 2) for row, column in best_cells(board, means)),
        rule=len(rows) if cited else None,
        notes=(*notes, *remarks.missing(board)),
    )


def _published(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return [cells.NONE] * 3
    return [_marked(row), cells.difference(row["difference"]), _within(row)]


def _marked(row: Mapping[str, Any]) -> str:
    return cells.score(row["published"]) + remarks.MARKS[row["checked"]]


def _within(row: Mapping[str, Any]) -> str:
    if math.isnan(row["difference"]):
        return cells.NONE
    return {None: "unknown", True: "yes", False: "no"}[row["within"]]


def _cited(board: Leaderboard, others: pd.DataFrame, width: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return rows of published numbers, and the sources that they cite by number."""
    sources = list(dict.fromkeys(others["source"]))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _records(others):
        found.setdefault(row["filter"], {})[row["group"]] = row
    rows = []
    for numbers in found.values():
        any_row = next(iter(numbers.values()))
        cites = ", ".join(
            str(n) for n in sorted({sources.index(row["source"]) + 1 for row in numbers.values()})
        )
        scores = [_marked(numbers[group]) if group in numbers else cells.NONE for group in board.groups]
        cited = [
            f"{any_row['title']} [{cites}]",
            cells.samples(any_row["dataset_size"]),
            *scores,
        ]
        rows.append((*cited, *[cells.NONE] * (width - len(cited))))
    return rows, [f"[{n}] {source}" for n, source in enumerate(sources, start=1)]


def published_table(board: Leaderboard, beside: pd.DataFrame) -> Table:
    """Return a row a filter and score: ours, the published number, the difference, the noise, the source."""
    rows = tuple(
        (
            row["title"],
            row["group"],
            cells.score(row["mean"], row["std"]),
            _marked(row),
            cells.difference(row["difference"]),
            cells.NONE if math.isnan(row["noise"]) else f"± {row['noise']:.3f}",
            _within(row),
            row["source"],
        )
        for row in _records(beside)
    )
    changed = beside.loc[beside["changed"].astype(bool), "title"]
    return Table(
        label=f"{board.experiment.name}-published",
        title=f"{board.title}: against published numbers",
        caption=remarks.caption(board),
        header=("Filter", "Score", "Ours", "Published", "Difference", "Noise", "Within noise", "Source"),
        align="llrrrrrl",
        rows=rows,
        notes=(*remarks.noise(changed), *remarks.marks(rows), *remarks.missing(board)),
    )


def baseline_table(board: Leaderboard, found: pd.DataFrame, baseline: str) -> Table:
    """Return a row a filter: how far its average is above the baseline's; found: `against_baseline`."""
    title = next(item.title for item in board.filters if item.name == baseline)
    rows = tuple(
        (
            row["title"],
            cells.difference(row["difference"]),
            cells.interval(row["low"], row["high"]),
            cells.probability(row["p"]),
            str(row["tasks"]),
            str(row["seeds"]),
        )
        for row in _records(found)
    )
    notes = [
        "Difference: of the averages, over the tasks and seeds that both have. Interval and two-sided p by a"
        f" paired bootstrap: {RESAMPLES:,} resamples of tasks and of seeds (crossed, with replacement),"
        " percentiles. p is not corrected for the number of filters."
    ]
    if (found["seeds"] == 1).any():
        notes.append("With one seed only tasks are resampled: the noise of training is not in the interval.")
    return Table(
        label=f"{board.experiment.name}-versus-{baseline}",
        title=f"{board.title}: difference to {title}",
        caption=remarks.made_by(board),
        header=("Filter", "Difference", "95 % interval", "p", "Tasks", "Seeds"),
        align="lrrrrr",
        rows=rows,
        notes=(*notes, *remarks.missing(board)),
    )


def task_table(board: Leaderboard, numbers: pd.DataFrame) -> Table:
    """Return a row a task, a column a filter that has runs; numbers: `task_numbers`."""
    filters = [item for item in board.filters if f"{item.name}_mean" in numbers]
    columns = [
        [
            cells.score(m, s)
            for m, s in zip(numbers[f"{item.name}_mean"], numbers[f"{item.name}_std"], strict=True)
        ]
        for item in filters
    ]
    means = pd.DataFrame(
        {item.name: numbers[f"{item.name}_mean"] for item in board.filters if item in filters}
    ).T
    return Table(
        label=f"{board.experiment.name}-tasks",
        title=f"{board.title}: every task",
        caption=remarks.caption(board),
        header=("Task", "Metric", *(item.title for item in filters)),
        align="ll" + "r" * len(filters),
        rows=tuple(zip(numbers["name"], numbers["metric"], *columns, strict=True)),
        best=frozenset((row, column + 2) for column, row in best_cells(board, means)),
        notes=(*remarks.best(board), *remarks.missing(board)),
    )


def best_cells(board: Leaderboard, means: pd.DataFrame) -> list[tuple[int, int]]:
    """Return the places of each column's highest means, as far as three decimals tell.

    means: a row a filter. Filters given by a subset do not compete; where all are equal none has won.
    """
    given = {item.name for item in board.filters if item.subset is not None}
    shown = means.round(3)
    shown.loc[shown.index.isin(given)] = math.nan
    best = shown.eq(shown.max()) & (shown.max() > shown.min())
    return [(int(row), int(column)) for row, column in zip(*best.to_numpy().nonzero(), strict=True)]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
