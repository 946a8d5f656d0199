"""Launches batches of work on this machine: through submitit's local executor, or in this process."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import submitit

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ended(Generic[Item, Result]):
    """A batch that ended: its items, and either its result or why there is none."""

    items: Sequence[Item]
    result: Result | None
    failure: str = ""


def in_process(
    function: Callable[[Sequence[Item]], Result],
    batches: Sequence[Sequence[Item]],
    *,
    watch: Callable[[], None],
) -> Iterator[Ended[Item, Result]]:
    """Run the batches one after another in this process; `watch` is called from a thread meanwhile."""
    for batch in batches:
        with _watched(watch):
            result = function(batch)
        yield Ended(batch, result)


@contextlib.contextmanager
def _watched(watch: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def watching() -> None:
        while not over.wait(0.2):
            watch()

    thread = threading.Thread(target=watching, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def on_this_machine(
    function: Callable[[Sequence[Item]], Result],
    batches: Sequence[Sequence[Item]],
    *,
    jobs: int,
    folder: Path,
    name: str,
    watch: Callable[[], None],
) -> Iterator[Ended[Item, Result]]:
    """Run the batches in processes of their own, at most `jobs` at a time, and yield each as it ends.

    folder: where submitit keeps its files. watch: called several times a second while waiting.
    A process that dies is an ended batch with the reason; interrupted, the running ones are cancelled.
    """
    executor = submitit.AutoExecutor(folder=folder, cluster="local")
    executor.update_parameters(name=name, timeout_min=60 * 24 * 14)
    waiting = list(reversed(batches))
    running: list[tuple[Sequence[Item], submitit.Job[Result]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                batch = waiting.pop()
                running.append((batch, executor.submit(function, batch)))
            ended = [pair for pair in running if pair[1].done()]
            for batch, job in ended:
                running.remove((batch, job))
                yield _ended(batch, job)
            watch()
            if not ended:
                time.sleep(0.1)
    finally:
        for _, job in running:
            job.cancel(check=False)


def _ended(batch: Sequence[Item], job: Any) -> Ended[Item, Any]:
    try:
        return Ended(batch, job.result())
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "no reason given"
        return Ended(batch, None, f"its process ended: {reason}\n  log: {job.paths.stderr}")
