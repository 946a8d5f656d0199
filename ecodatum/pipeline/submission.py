"""Sends an experiment's units to Slurm: what is missing and not under way, as arrays that wait for others."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.files import locked
from ecodatum.launch import slurm
from ecodatum.launch.packing import items_per_task, pack
from ecodatum.launch.profile import Profile
from ecodatum.pipeline.attempts import read_attempt
from ecodatum.pipeline.ledger import Array, Submission, read_submissions, unit_id, write_units
from ecodatum.pipeline.task import RunTask
from ecodatum.pipeline.units import Unit


@dataclass(frozen=True)
class Group:
    """Units of a stage that ask for the same machine and wait for the same groups."""

    stage: str
    resources: str
    after: frozenset["Group"] = frozenset()


@dataclass(frozen=True)
class Packed:
    """Units as arrays of tasks, in an order in which they can be submitted; and the units left out."""

    arrays: tuple[tuple[Group, list[list[Unit]]], ...]
    kept: Mapping[str, str]
    done: int

    @property
    def units(self) -> int:
        """How many units are to be submitted."""
        return sum(len(task) for _, tasks in self.arrays for task in tasks)

    @property
    def tasks(self) -> int:
        """How many array tasks are to be submitted."""
        return sum(len(tasks) for _, tasks in self.arrays)


def submit(
    units: Sequence[Unit],
    profile: Profile,
    folder: Path,
    command: Mapping[str, Any],
    *,
    told: Callable[[str, str, int], None] = lambda stage, job, tasks: None,
) -> Packed:
    """Submit the units that are neither done nor under way, each array after those that it needs.

    units: of an experiment, in the order of its stages. folder: the experiment's. command: what to
    remember for a retry. told: called with each array's stage, job id and number of tasks.
    What a driver that was killed left in the queue without a record is cancelled first. Raises RunError
    when Slurm cannot be asked or takes no more; what it has taken by then stays submitted.
    """
    slurm.require_slurm()
    with locked(folder / "submissions" / "lock") as held:
        write_units(folder, units)
        packed = pack_units(units, profile, _under_way(units, folder, alone=held))
        now, mark = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f"), secrets.token_hex(4)
        own = folder / "submissions" / f"{now}-{mark}"
        arrays = tuple(
            Array(
                group.stage,
                own / f"{number:03d}-{group.stage}",
                f"ecodatum-{mark}-{number}",
                tuple(tuple(unit_id(unit) for unit in task) for task in tasks),
            )
            for number, (group, tasks) in enumerate(packed.arrays)
        )
        if arrays:
            Submission(own, command, arrays).write()
            _submit(units, arrays, packed, profile, told)
        return packed


def _submit(
    units: Sequence[Unit],
    arrays: Sequence[Array],
    packed: Packed,
    profile: Profile,
    told: Callable[[str, str, int], None],
) -> None:
    jobs = {unit: task.partition("_")[0] for unit, task in packed.kept.items()}
    makers = {output.path: unit_id(unit) for unit in units for output in unit.outputs}
    for array, (group, tasks) in zip(arrays, packed.arrays, strict=True):
        needs = {need.path for task in tasks for unit in task for need in unit.needs}
        after = {jobs[makers[path]] for path in needs if makers.get(path) in jobs}
        job = slurm.submit_array(
            RunTask(profile.visible_after_seconds),
            tasks,
            profile=profile,
            resources=profile.resources(group.resources),
            folder=array.folder,
            name=array.stage,
            mark=array.mark,
            after=sorted(after, key=int),
        )
        array.settle(job)
        jobs |= {unit: job for task in array.tasks for unit in task}
        told(array.stage, job, len(tasks))


def _under_way(units: Sequence[Unit], folder: Path, *, alone: bool) -> dict[str, str]:
    """Return the tasks that Slurm has not finished by the id of the unit, unless that has failed in it.

    alone: no other driver submits at this moment, so that an array without a job is a dead driver's.
    """
    queue = slurm.queue()
    if queue is None:
        raise RunError("Slurm cannot be asked", where="squeue", todo="is the controller up? (scontrol ping)")
    under_way: dict[str, str] = {}
    for submission in read_submissions(folder):
        for array in submission.arrays:
            if alone and not array.settled:
                _cancel_forgotten(array, queue)
                array.settle("")
            for task, names in zip(array.task_ids(), array.tasks, strict=False):
                if task in queue:
                    under_way.update(dict.fromkeys(names, task))
    for unit in units:
        name = unit_id(unit)
        task = under_way.get(name, "")
        if task and queue[task].state != "PENDING" and _given_up(unit, task):
            del under_way[name]
    return under_way


def _given_up(unit: Unit, task: str) -> bool:
    """Tell whether a task that may do other units yet is through with this one, in vain."""
    attempt = read_attempt(unit.log)
    return attempt is not None and attempt.task == task and attempt.status in {"failed", "blocked"}


def cancel_all(folder: Path) -> int:
    """Cancel what the experiment in `folder` has in the queue, and return how many tasks that were."""
    queue = slurm.queue()
    if queue is None:
        raise RunError("Slurm cannot be asked", where="squeue", todo="is the controller up? (scontrol ping)")
    count = 0
    for array in (array for submission in read_submissions(folder) for array in submission.arrays):
        tasks = [task for task, queued in queue.items() if queued.mark == array.mark]
        if tasks:
            array.cancel()
            slurm.cancel(task.partition("_")[0] for task in tasks)
            count += len(tasks)
    return count


def _cancel_forgotten(array: Array, queue: Mapping[str, slurm.Queued]) -> None:
    """Cancel what a driver submitted that died before it could write it down: its tasks lack their units."""
    slurm.cancel(task.partition("_")[0] for task, queued in queue.items() if queued.mark == array.mark)


def pack_units(units: Sequence[Unit], profile: Profile, under_way: Mapping[str, str]) -> Packed:
    """Return the units that are neither done nor under way as arrays within the profile's limits.

    A unit counts as under way if it is in the queue and so is all that it waits for: one that waits in the
    queue for a unit that failed will not start, and is submitted again with it.
    """
    makers = {output.path: unit for unit in units for output in unit.outputs}
    done = {unit_id(unit) for unit in units if unit.done()}
    kept: dict[str, str] = {}
    groups: dict[Group, list[Unit]] = {}
    group_of: dict[str, Group] = {}
    for unit in units:
        name = unit_id(unit)
        if name in done:
            continue
        waits = {unit_id(makers[need.path]) for need in unit.needs if need.path in makers} - done
        if name in under_way and waits <= kept.keys():
            kept[name] = under_way[name]
            continue
        after = frozenset(group_of[maker] for maker in waits if maker in group_of)
        group = Group(unit.stage, unit.resources or unit.stage, after)
        group_of[name] = group
        groups.setdefault(group, []).append(unit)
    most = [_most(group, profile) for group in groups]
    room = profile.max_tasks - len(set(kept.values()))
    shares = items_per_task([len(members) for members in groups.values()], most, room)
    arrays = tuple(
        (group, tasks)
        for (group, members), share in zip(groups.items(), shares, strict=True)
        for tasks in pack(members, share, profile.max_array_size)
    )
    return Packed(arrays, kept, len(done))


def _most(group: Group, profile: Profile) -> int | None:
    """Return how many units a task may do at most: one where processes meet anew for each."""
    resources = profile.resources(group.resources)
    return 1 if resources.world_size > 1 else resources.units
