"""What the command line shows: progress of stages, tables, errors."""

import os
import time
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ecodatum.pipeline.units import Outcome, Unit

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class StageProgress:
    """A progress bar a stage on a terminal; elsewhere a line when it starts and one when it ends."""

    def __init__(self) -> None:
        # A handle of its own: a unit that runs in this process sends standard error to its log.
        self._terminal = Console(file=os.fdopen(os.dup(2), "w", encoding="utf-8"), highlight=False)
        self._started = 0.0
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def start(self, stage: str, units: Sequence[Unit], cached: int) -> None:
        """Begin a stage."""
        self._started = time.monotonic()
        done = f", {cached} done before" if cached else ""
        if not err.is_terminal:
            err.print(f"{stage}: {_count(len(units), 'unit')}{done}")
            return
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[of]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._terminal,
        )
        self._task = self._bars.add_task(stage, total=sum(u.size for u in units), of=units[0].of)
        self._bars.start()

    def advance(self, done: int, total: int, of: str) -> None:
        """Move the bar."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def end(self, stage: str, outcomes: Sequence[Outcome]) -> None:
        """End a stage, and name what went wrong in it."""
        seconds = time.monotonic() - self._started
        if self._bars is not None and self._task is not None:
            if all(outcome.status in {"ran", "done"} for outcome in outcomes):
                self._bars.update(self._task, completed=self._bars.tasks[0].total)
            self._bars.stop()
            self._bars = None
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        blocked = [outcome for outcome in outcomes if outcome.status == "blocked"]
        if failed or blocked:
            err.print(
                f"[red]{stage}: {_count(len(failed), 'unit')} failed, {len(blocked)} not started[/red]"
                f" after {seconds:.0f} s"
            )
        elif not err.is_terminal:
            err.print(f"{stage}: done in {seconds:.1f} s")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(frame: pd.DataFrame, *, title: str | None = None) -> Table:
    """Return a frame of texts and numbers as a table for the terminal; floats with three decimals."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in frame.columns:
        text = frame[name].map(lambda value: isinstance(value, str) and not value[:1].isdigit()).any()
        shown.add_column(str(name), justify="left" if text else "right", overflow="fold")
    for row in frame.itertuples(index=False):
        shown.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    if not out.is_terminal:  # nothing is folded for a file or another program
        shown.width = Console(width=10_000).measure(shown).maximum
    return shown
