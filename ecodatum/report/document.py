"""An experiment's tables with their numbers, ready to be written in any of the formats."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from ecodatum.files import write_text
from ecodatum.report import formats
from ecodatum.report.comparison import against_baseline, against_published, not_run
from ecodatum.report.formats import Table
from ecodatum.report.leaderboard import Leaderboard
from ecodatum.report.tables import baseline_table, published_table, score_table, task_table


@dataclass(frozen=True)
class Document:
    """What is shown: tables, and their numbers in full precision, a frame that becomes a CSV file."""

    tables: tuple[Table, ...]
    numbers: pd.DataFrame


#: How a document is written, by the formats' names; and the suffixes of their files.
FORMATS: Final[dict[str, Callable[[Document], str]]] = {
    "terminal": lambda document: formats.text(document.tables),
    "markdown": lambda document: formats.markdown(document.tables),
    "csv": lambda document: document.numbers.to_csv(index=False, lineterminator="\n"),
    "latex": lambda document: formats.latex(document.tables),
    "html": lambda document: formats.page(document.tables),
}
SUFFIXES: Final = {".txt": "terminal", ".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html"}


def leaderboard_document(
    board: Leaderboard, *, published: bool = False, baseline: str | None = None
) -> Document:
    """Return the leaderboard, beside the published numbers where there are any.

    published: show also the rows of the same scale that were not run. baseline: a filter's name; how far
    the others' averages are above its own, with significance. Raises ConfigError where nothing is
    published, or there is no such filter.
    """
    beside = against_published(board)
    others = not_run(board, beside) if published else _NOTHING
    tables = [score_table(board, beside, others)]
    numbers = leaderboard_numbers(board, beside, others)
    if len(beside):
        tables.append(published_table(board, beside))
    if baseline is not None:
        found = against_baseline(board, baseline)
        tables.append(baseline_table(board, found, baseline))
        versus = found.drop(columns="title").add_prefix(f"versus_{baseline}_")
        numbers = numbers.join(versus, on="filter")
    return Document(tuple(tables), numbers)


def task_document(board: Leaderboard) -> Document:
    """Return a row a task and a column a filter: the main metric's mean and deviation over seeds."""
    numbers = task_numbers(board)
    return Document((task_table(board, numbers),), numbers)


def write_leaderboard(document: Document, folder: Path) -> tuple[Path, ...]:
    """Write `leaderboard.md` and `leaderboard.csv` (a row per filter, full precision); return both paths."""
    files = tuple(folder / f"leaderboard{suffix}" for suffix in (".md", ".csv"))
    for file in files:
        write_text(file, FORMATS[SUFFIXES[file.suffix]](document))
    return files


def leaderboard_numbers(board: Leaderboard, beside: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return a row a filter: filter, title, size, each group's mean and std, seeds.

    Where published numbers are compared (see `against_published`), also each group's published,
    difference, noise, within, source and checked; `others` (see `not_run`) are rows with 0 seeds.
    """
    rows = board.every_row()
    rows.columns = pd.Index(["_".join(filter(None, column)) for column in rows.columns])
    for group in dict.fromkeys(beside["group"]):
        compared = beside[beside["group"] == group].set_index("filter")
        for column in ("published", "difference", "noise", "within", "source", "checked"):
            rows[f"{group}_{column}"] = compared[column].reindex(rows.index)
    numbers = rows.reset_index()
    added: dict[str, dict[str, Any]] = {}
    for row in others.to_dict("records"):
        about = {"filter": row["filter"], "title": row["title"], "size": row["dataset_size"], "seeds": 0}
        entry = added.setdefault(row["filter"], about)
        entry.update(
            {f"{row['group']}_{column}": row[column] for column in ("published", "source", "checked")}
        )
    return pd.concat([numbers, pd.DataFrame(added.values())], ignore_index=True) if added else numbers


def task_numbers(board: Leaderboard) -> pd.DataFrame:
    """Return a row a task: task (its key), name, group, metric, and each filter's mean and std over seeds."""
    numbers = pd.DataFrame(
        [(task.key, task.name, task.group, task.main_metric) for task in board.tasks],
        columns=["task", "name", "group", "metric"],
    )
    grouped = board.metrics.groupby(board.scores["filter"], sort=False)
    mean, std = grouped.mean().T, grouped.std().T
    for item in board.filters:
        if item.name in mean:
            numbers[f"{item.name}_mean"] = mean[item.name].to_numpy()
            numbers[f"{item.name}_std"] = std[item.name].to_numpy()
    return numbers


_NOTHING: Final = pd.DataFrame(
    columns=["filter", "title", "dataset_size", "group", "published", "source", "checked"]
)
