"""Runs an experiment's units stage by stage: only what is missing, and all that can be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ecodatum.errors import RunError
from ecodatum.files import make_folder
from ecodatum.launch.local import Ended, in_process, on_this_machine
from ecodatum.pipeline.execution import run_units
from ecodatum.pipeline.units import Outcome, Unit, read_progress

#: Stages whose units are long: each gets a process of its own.
_LONG = ("train", "evaluate")


class Reporter(Protocol):
    """Shows how the stages go."""

    def start(self, stage: str, units: Sequence[Unit], cached: int) -> None:
        """Begin a stage: its units that are not done, and how many are."""

    def advance(self, done: int, total: int, of: str) -> None:
        """Tell how much of the stage is done."""

    def end(self, stage: str, outcomes: Sequence[Outcome]) -> None:
        """End a stage."""


@dataclass
class Summary:
    """What a run did: outcomes by stage."""

    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[str, Outcome]]:
        """The units that failed, with their stage."""
        return [(stage, outcome) for stage, outcome in self.outcomes if outcome.status == "failed"]

    @property
    def blocked(self) -> list[tuple[str, Outcome]]:
        """The units that did not start because one that they need is not done."""
        return [(stage, outcome) for stage, outcome in self.outcomes if outcome.status == "blocked"]


def run_stages(
    units: Sequence[Unit], stages: Sequence[str], *, jobs: int, folder: Path, reporter: Reporter
) -> Summary:
    """Run the units of the stages in order, at most `jobs` processes at a time.

    With `jobs` 0 all runs in this process. A unit that fails does not stop its siblings; what needs it
    does not start. Raises RunError at the end, naming every failed unit, if any failed.
    """
    make_folder(folder)
    summary = Summary()
    for stage in stages:
        mine = [unit for unit in units if unit.stage == stage]
        todo = [unit for unit in mine if not unit.done()]
        if not todo:
            continue
        reporter.start(stage, todo, len(mine) - len(todo))
        outcomes = _run_stage(stage, todo, jobs=jobs, folder=folder, reporter=reporter)
        summary.outcomes += [(stage, outcome) for outcome in outcomes]
        reporter.end(stage, outcomes)
    _require_success(summary)
    return summary


def _run_stage(
    stage: str, todo: Sequence[Unit], *, jobs: int, folder: Path, reporter: Reporter
) -> list[Outcome]:
    for unit in todo:
        unit.progress_file.unlink(missing_ok=True)
    total, of = sum(unit.size for unit in todo), todo[0].of

    def watch() -> None:
        reporter.advance(sum(read_progress(unit) for unit in todo), total, of)

    ended: Iterable[Ended[Unit, list[Outcome]]]
    if jobs == 0:
        ended = in_process(run_units, [[unit] for unit in todo], watch=watch)
    else:
        batches = _batches(todo, len(todo) if stage in _LONG else jobs)
        ended = on_this_machine(
            run_units, batches, jobs=jobs, folder=folder / "jobs", name=stage, watch=watch
        )
    outcomes: list[Outcome] = []
    for batch in ended:
        outcomes += batch.result if batch.result is not None else _died(batch)
        watch()
    return outcomes


def _batches(units: Sequence[Unit], count: int) -> list[Sequence[Unit]]:
    """Deal units out to at most `count` batches of about equal work."""
    batches: list[list[Unit]] = [[] for _ in range(min(count, len(units)))]
    for unit in units:
        min(batches, key=lambda batch: sum(u.size for u in batch)).append(unit)
    return [batch for batch in batches if batch]


def _died(batch: Ended[Unit, list[Outcome]]) -> list[Outcome]:
    """Tell what became of the units of a process that died: some may have been done before."""
    return [
        Outcome(unit.name, "ran") if unit.done() else Outcome(unit.name, "failed", batch.failure)
        for unit in batch.items
    ]


def _require_success(summary: Summary) -> None:
    if not summary.failed and not summary.blocked:
        return
    lines = [
        f"  {stage} {outcome.unit}: {outcome.message}".replace("\n", "\n  ")
        for stage, outcome in summary.failed
    ]
    if summary.blocked:
        names = ", ".join(f"{stage} {outcome.unit}" for stage, outcome in summary.blocked[:5])
        more = f" and {len(summary.blocked) - 5} more" if len(summary.blocked) > 5 else ""
        lines.append(f"  not started, because they need those: {names}{more}")
    count = len(summary.failed)
    raise RunError(
        f"{count} unit{'s' if count != 1 else ''} failed\n" + "\n".join(lines),
        todo="mend the cause and give the same command again: what is done is not done again",
    )
