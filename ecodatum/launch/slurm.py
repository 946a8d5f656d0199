"""Talks to Slurm: arrays through submitit, the queue, the accounting, and what a task knows of itself."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import submitit
from submitit.helpers import Checkpointable

from ecodatum.errors import RunError
from ecodatum.launch.profile import Profile, Resources

Item = TypeVar("Item")

#: Ends of a task that a retry can mend: SIGBUS (a lost file server) and SIGKILL (an operator, no memory).
_MENDABLE = "135|137"


class _Task(Checkpointable):
    """A batch of an array; told that its time ends, submitit requeues it with the same batch."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, batch: Any) -> Any:
        return self.function(batch)


def submit_array(
    function: Callable[[Sequence[Item]], Any],
    batches: Sequence[Sequence[Item]],
    *,
    profile: Profile,
    resources: Resources,
    folder: Path,
    name: str,
    mark: str,
    after: Sequence[str] = (),
) -> str:
    """Submit an array with a task for each batch and return its job id; see `task_id` for the tasks'.

    folder: the array's own, for submitit's files and the tasks' logs. mark: the jobs' comment in Slurm.
    after: job ids that must have ended, however they did. Raises RunError when Slurm doesn't take it.
    """
    require_slurm()
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=resources.timeouts)
    executor.update_parameters(**_parameters(profile, resources, name, mark, after))
    try:
        jobs = executor.map_array(_Task(function), batches)
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if line.startswith("sbatch: error")]
        why = "; ".join(dict.fromkeys(line.removeprefix("sbatch: error: ") for line in lines)) or str(error)
        raise RunError(
            f"Slurm does not take the array: {why}",
            where=name,
            todo="compare the cluster profile with `sinfo` and `scontrol show config`",
        ) from error
    return str(jobs[0].job_id).partition("_")[0]


def task_id(job: str, index: int, tasks: int) -> str:
    """Return the id of a task of an array; a single task is no array to Slurm."""
    return f"{job}_{index}" if tasks > 1 else job


def _parameters(
    profile: Profile, resources: Resources, name: str, mark: str, after: Sequence[str]
) -> dict[str, Any]:
    extra: dict[str, Any] = {"requeue": True, **resources.sbatch}
    srun = ["--cpus-per-task", str(resources.cpus)]
    if resources.world_size > 1:
        srun.append("--kill-on-bad-exit=1")
    given = {
        "job_name": name,
        "comment": mark,
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.processes,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus or None,
        "mem": None if resources.memory_gb is None else f"{max(1, round(resources.memory_gb * 1024))}MB",
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "dependency": "afterany:" + ":".join(after) if after else None,
        "array_parallelism": resources.parallel,
        "signal_delay_s": profile.signal_seconds,
        "setup": [*profile.setup, *_scratch(profile.scratch), "set +e"],
        "teardown": _retry(profile.retries),
        "srun_args": srun,
        "stderr_to_stdout": True,
        "additional_parameters": extra,
    }
    return {**{key: value for key, value in given.items() if value is not None}, "wckey": None}


def _scratch(folder: str | None) -> list[str]:
    return [] if folder is None else [f'export TMPDIR="{folder}"', 'mkdir -p "$TMPDIR"']


def _retry(retries: int) -> list[str]:
    """Return the lines after srun: a task that was killed goes back to the queue, `retries` times.

    One that Slurm itself has ended (cancelled, preempted, out of time) no longer counts as running.
    """
    job = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_JOB_ID:+_$SLURM_ARRAY_TASK_ID}"
    return [
        "status=$?",
        f'task="{job}"',
        f'case "$status" in {_MENDABLE})',
        f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ] &&',
        '        [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]',
        '    then scontrol requeue "$task"; fi ;;',
        "esac",
        'exit "$status"',
    ]


@dataclass(frozen=True)
class Queued:
    """A task that Slurm has not finished: PENDING, RUNNING …, why it waits, and its job's comment."""

    state: str
    reason: str
    mark: str


def queue() -> dict[str, Queued] | None:
    """Return the user's unfinished tasks by their ids, or None where Slurm cannot be asked."""
    text = _ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r|%k")
    if text is None:
        return None
    rows = (line.split("|", 3) for line in text.splitlines())
    return {row[0]: Queued(*row[1:]) for row in rows if len(row) == 4}


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """Return Slurm's word for how each task of the jobs ended; nothing where accounting knows nothing."""
    listed = ",".join(sorted(set(jobs)))
    if not listed:
        return {}
    form = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State")
    text = _ask("sacct", *form, f"--jobs={listed}")
    rows = (line.split("|", 1) for line in (text or "").splitlines())
    return {task: row[1] for row in rows if len(row) == 2 for task in _tasks_of(row[0])}


def _tasks_of(name: str) -> Iterator[str]:
    """Yield the tasks that a row of the accounting stands for: 7, 7_3, or, never begun, 7_[4,6-9%2]."""
    job, _, listed = name.partition("_")
    if not listed.startswith("["):
        yield name
        return
    for span in listed.strip("[]").partition("%")[0].split(","):
        first, _, last = span.partition("-")
        for index in range(int(first), int(last or first) + 1):
            yield f"{job}_{index}"


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs and tasks; those that have ended are left alone. Raises RunError when Slurm cannot."""
    require_slurm()
    names = sorted(set(jobs))
    for start in range(0, len(names), 500):
        done = subprocess.run(
            ["scancel", "--quiet", *names[start : start + 500]], capture_output=True, text=True, check=False
        )
        if done.returncode and "Invalid job id" not in done.stderr:
            raise RunError(f"scancel: {done.stderr.strip()}", where="Slurm")


def require_slurm() -> None:
    """Raise RunError where Slurm's commands are absent."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise RunError(
            "Slurm's commands are not here",
            where="--cluster",
            todo="give the command on a login node; slurm/README.md tells how to try without a cluster",
        )


def _ask(*command: str) -> str | None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        if done.returncode == 0:
            return done.stdout
    return None


def this_task() -> str | None:
    """Return the id of the task that this process is of; None outside Slurm."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array else os.environ.get("SLURM_JOB_ID")


def this_start() -> str:
    """Return a name of this start of the task: another one after each requeue."""
    return f"{this_task()}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def rank() -> tuple[int, int]:
    """Return this process's number among the task's processes, and their count."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return 0, 1
    return int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))


def export_rendezvous() -> None:
    """Set what torch.distributed's `env://` reads, from what Slurm says: MASTER_ADDR, MASTER_PORT, RANK …"""
    submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
