"""Tells how far an experiment is: by its manifests and records first, by Slurm where that knows more."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from ecodatum.launch import slurm
from ecodatum.pipeline.attempts import Attempt, read_attempt
from ecodatum.pipeline.ledger import Array, UnitRecord, read_submissions, read_units, unit_id
from ecodatum.pipeline.units import Output

STATES: Final = ("pending", "running", "done", "failed", "blocked", "cancelled")

#: Why a task waits, in other words than Slurm's where those need some.
_WAITS: Final = {
    "Dependency": "waits for the stages before",
    "JobArrayTaskLimit": "waits for its array's other tasks",
    "BeginTime": "starts again in a moment",
}
_ENDS: Final = {
    "TIMEOUT": "its time limit was reached too often",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it needed more memory than the profile asks for",
    "FAILED": "its task ended before the unit did",
    "COMPLETED": "its task ended, and what it made is gone",
}


@dataclass(frozen=True)
class UnitState:
    """How a unit stands: one of STATES, why, since when, by which task of Slurm, and where its log is."""

    unit: UnitRecord
    state: str
    reason: str = ""
    time: str = ""
    seconds: float = 0.0
    task: str | None = None
    log: Path | None = None


@dataclass
class Status:
    """The states of an experiment's units; `queued` tells whether the queue holds any of its tasks."""

    units: list[UnitState]
    queued: bool
    asked: bool

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of units by stage and state."""
        found: dict[str, dict[str, int]] = {}
        for unit in self.units:
            stage = found.setdefault(unit.unit.stage, dict.fromkeys(STATES, 0))
            stage[unit.state] += 1
        return found

    def of(self, *states: str) -> list[UnitState]:
        """Return the units in one of the states."""
        return [unit for unit in self.units if unit.state in states]


def read_status(folder: Path) -> Status:
    """Return the status of the experiment in `folder`; raises RunError when it was never run."""
    units = read_units(folder)
    return _Reader(units, [array for s in read_submissions(folder) for array in s.arrays]).read()


@dataclass
class _Reader:
    units: Sequence[UnitRecord]
    arrays: Sequence[Array]
    _tasks: dict[str, tuple[str, Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for array in self.arrays:
            for task, units in zip(array.task_ids(), array.tasks, strict=False):
                self._tasks.update(dict.fromkeys(units, (task, array)))

    def read(self) -> Status:
        """Return the state of every unit."""
        found = [self._state(unit) for unit in self.units]
        queued = {task for task, _ in self._tasks.values()} & (self.queue or {}).keys()
        return Status(found, bool(queued), self.queue is not None)

    @cached_property
    def queue(self) -> dict[str, slurm.Queued] | None:
        """The queue; not asked where nothing was submitted."""
        return slurm.queue() if self._tasks else {}

    @cached_property
    def ends(self) -> Mapping[str, str]:
        """How tasks ended, by the accounting; asked only where a unit has no better record."""
        return slurm.ended(task.partition("_")[0] for task, _ in self._tasks.values())

    @cached_property
    def makers(self) -> Mapping[str, UnitRecord]:
        """The units by the paths of their outputs."""
        return {str(output.path): unit for unit in self.units for output in unit.outputs}

    def _state(self, unit: UnitRecord) -> UnitState:
        finished = _finished(unit)
        if finished is not None:
            return finished
        attempt = read_attempt(unit.log)
        task, array = self._tasks.get(unit_id(unit), (None, None))
        if task is None or array is None or (attempt is not None and attempt.task is None):
            return self._local(unit, attempt)
        if self.queue is None:
            state = UnitState(unit, "pending", "as last known: Slurm cannot be asked", task=task)
            return (
                self._attempted(unit, attempt, "as last known: Slurm cannot be asked") if attempt else state
            )
        queued = self.queue.get(task)
        if queued is not None:
            return self._queued(unit, attempt, task, queued)
        if attempt is not None and attempt.task == task and attempt.status != "running":
            return self._attempted(unit, attempt)
        return self._lost(unit, attempt, task, array)

    def _queued(
        self, unit: UnitRecord, attempt: Attempt | None, task: str, queued: slurm.Queued
    ) -> UnitState:
        if queued.state == "PENDING":
            return UnitState(unit, "pending", _WAITS.get(queued.reason, queued.reason), task=task)
        if attempt is not None and attempt.task == task:
            return self._attempted(unit, attempt)
        return UnitState(unit, "pending", "its task has begun", task=task)

    def _attempted(self, unit: UnitRecord, attempt: Attempt, note: str = "") -> UnitState:
        reason = attempt.message or note
        if attempt.status == "blocked" and attempt.needs in self.makers:
            reason = f"needs {unit_id(self.makers[attempt.needs])}, which is not done"
        where = f"on {attempt.host}" if attempt.status == "running" and not reason else reason
        return UnitState(unit, attempt.status, where, attempt.time, attempt.seconds, attempt.task, unit.log)

    def _local(self, unit: UnitRecord, attempt: Attempt | None) -> UnitState:
        """Tell the state of a unit that was last attempted, if at all, outside Slurm."""
        if attempt is None:
            return UnitState(unit, "pending", "not begun")
        gone = attempt.host == platform.node() and not Path(f"/proc/{attempt.pid}").exists()
        if attempt.status == "running" and gone:
            why = "its process ended without a word"
            return UnitState(unit, "failed", why, attempt.time, task=attempt.task, log=unit.log)
        return self._attempted(unit, attempt)

    def _lost(self, unit: UnitRecord, attempt: Attempt | None, task: str, array: Array) -> UnitState:
        """Tell the state of a unit whose task is over without a last word of the unit itself."""
        began = attempt is not None and attempt.task == task
        time = attempt.time if attempt is not None and began else ""
        log = unit.log if began else array.task_log(task)
        word = self.ends.get(task, "").split(" ")[0]
        if word == "CANCELLED" or (not word and array.cancelled):
            return UnitState(unit, "cancelled", "its job was cancelled", time, task=task, log=log)
        default = f"Slurm says {word}" if word else "its job is over, and Slurm no longer tells how"
        return UnitState(unit, "failed", _ENDS.get(word, default), time, task=task, log=log)


def _finished(unit: UnitRecord) -> UnitState | None:
    """Return the state of a unit that is done, by its manifests."""
    last = None
    for output in unit.outputs:
        last = _manifest(output)
        if last is None:
            return None
    if last is None:
        return None
    time, seconds, task = str(last.get("finished", "")), float(str(last.get("seconds", 0))), last.get("task")
    return UnitState(unit, "done", "", time, seconds, None if task is None else str(task), unit.log)


def _manifest(output: Output) -> dict[str, object] | None:
    try:
        manifest = output.read()
        whole = manifest["fingerprint"] == output.fingerprint and os.path.lexists(output.path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None
