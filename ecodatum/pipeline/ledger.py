"""What an experiment consists of and what of it was submitted as what, in its own folder.

`units.json` lists the units. `submissions/<time>-<mark>/submission.json` lists the arrays of a submission and
their tasks' units, and is written before Slurm hears of them; an array's folder beside it holds `job`, its id
in Slurm, written as soon as Slurm has given it, and submitit's files. An array without `job` was never
submitted, or its driver died at that moment; the array's mark, which its jobs bear as comment, tells which.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.files import settle, write_json, write_text
from ecodatum.launch.slurm import task_id
from ecodatum.pipeline.units import Output, Unit


@dataclass(frozen=True)
class UnitRecord:
    """A unit as far as its state can be told: its names, its log, and its outputs."""

    stage: str
    name: str
    log: Path
    outputs: tuple[Output, ...]


def unit_id(unit: Unit | UnitRecord) -> str:
    """Return the name of a unit within its experiment."""
    return f"{unit.stage}/{unit.name}"


def write_units(folder: Path, units: Sequence[Unit]) -> None:
    """Write down the units of the experiment in `folder`."""
    rows = [
        [unit.stage, unit.name, str(unit.log), [[str(o.path), o.fingerprint] for o in unit.outputs]]
        for unit in units
    ]
    write_text(folder / "units.json", json.dumps(rows))


def read_units(folder: Path) -> list[UnitRecord]:
    """Return the units of the experiment in `folder`; raises RunError when it was never run."""
    try:
        rows = json.loads((folder / "units.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            "no experiment was run here", where=folder, todo="see `ecodatum status`, or give --work"
        ) from None
    return [
        UnitRecord(stage, name, Path(log), tuple(Output(Path(path), mark) for path, mark in outputs))
        for stage, name, log, outputs in rows
    ]


@dataclass(frozen=True)
class Array:
    """An array of a submission: its stage, its folder, its mark in Slurm, and the units of its tasks."""

    stage: str
    folder: Path
    mark: str
    tasks: tuple[tuple[str, ...], ...]

    @property
    def job(self) -> str | None:
        """Slurm's id of the array, as far as it is known."""
        try:
            return (self.folder / "job").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    @property
    def settled(self) -> bool:
        """Whether it is known what Slurm made of the array: a job, or nothing."""
        return (self.folder / "job").exists()

    def settle(self, job: str) -> None:
        """Write down the array's job; an empty one says that there is none."""
        write_text(self.folder / "job", job)
        settle(self.folder / "job")

    @property
    def cancelled(self) -> bool:
        """Whether `ecodatum cancel` ended it."""
        return (self.folder / "cancelled").exists()

    def cancel(self) -> None:
        """Write down that `ecodatum cancel` ended it."""
        write_text(self.folder / "cancelled", "")

    def task_ids(self) -> list[str]:
        """Return Slurm's ids of the tasks; none where there is no job."""
        job = self.job
        count = len(self.tasks)
        return [] if job is None else [task_id(job, index, count) for index in range(count)]

    def task_log(self, task: str) -> Path:
        """Return the log of a task, which holds what comes before and after its units."""
        return self.folder / f"{task}_0_log.out"


@dataclass(frozen=True)
class Submission:
    """One submission of an experiment: the command that it can be repeated with, and its arrays."""

    folder: Path
    command: Mapping[str, Any]
    arrays: tuple[Array, ...]

    def write(self) -> None:
        """Write it down, before anything of it is submitted."""
        arrays = [[a.stage, a.folder.name, a.mark, a.tasks] for a in self.arrays]
        write_json(self.folder / "command.json", dict(self.command))
        write_text(self.folder / "submission.json", json.dumps(arrays))
        settle(self.folder / "submission.json")


def read_submissions(folder: Path) -> Iterator[Submission]:
    """Yield the submissions of the experiment in `folder`, in the order of time."""
    for file in sorted((folder / "submissions").glob("*/submission.json")):
        command = json.loads((file.parent / "command.json").read_text(encoding="utf-8"))
        arrays = tuple(
            Array(stage, file.parent / name, mark, tuple(map(tuple, tasks)))
            for stage, name, mark, tasks in json.loads(file.read_text(encoding="utf-8"))
        )
        yield Submission(file.parent, command, arrays)
