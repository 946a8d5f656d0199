"""Evaluates a checkpoint on a list of tasks: the model is loaded once, each result kept as it comes."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ecodatum.errors import AssetError, EcoDatumError, RunError
from ecodatum.evaluate.encoder import Encoder
from ecodatum.evaluate.record import Record, Result
from ecodatum.evaluate.scoring import ImageFeatures, score
from ecodatum.evaluate.sets import data_fingerprint
from ecodatum.evaluate.tasks import Task
from ecodatum.operators import clip_models


def evaluate(
    model: str | Path,
    checkpoint: Path,
    evalsets: Path,
    tasks: Sequence[Task],
    out: Path,
    *,
    batch_size: int = 64,
    device: str = "auto",
    workers: int | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Score `checkpoint` on `tasks`, and write `out/eval_results.jsonl` as DataComp's evaluate.py does.

    `model` is a name of open_clip's or a JSON config; `evalsets` the folder of all sets; `workers` are
    decoding threads (None: one a core), `threads` torch's on the CPU (None: half of the cores, since on the
    same core they and the decoding ones slow each other down); `on_result` is called with each new line.
    Returns the lines, in the tasks' order. Results that are there already, from the same checkpoint and the
    same data, are not computed again.

    Raises AssetError when the checkpoint cannot be used. When sets are missing or damaged, the other tasks
    are finished first; then raises RunError that names them. Source: DataComp evaluate.py.
    """
    device = clip_models.choose_device(device)
    name = clip_models.register(str(model))
    if not checkpoint.is_file():
        raise AssetError("no such checkpoint", where=checkpoint)
    record = Record.of(out, checkpoint, name, precision)
    record.open()
    failures: dict[str, str] = {}
    waiting: list[tuple[Task, str]] = []
    for task in tasks:
        with _noting(failures, task):
            mark = data_fingerprint(task, evalsets / task.data)
            if not record.has(task, mark):
                waiting.append((task, mark))
    if waiting:
        threads = threads or max(1, len(os.sched_getaffinity(0)) // 2)
        with clip_models.cpu_threads(threads if device == "cpu" else None):
            loaded = clip_models.load(name, checkpoint, device=device, precision=precision)
            encoder = Encoder(
                *loaded, device=device, precision=precision, batch_size=batch_size, workers=workers
            )
            folders = Counter(evalsets / task.data for task, _ in waiting)
            images = ImageFeatures(encoder, frozenset(f for f, users in folders.items() if users > 1))
            for task, mark in waiting:
                with _noting(failures, task):
                    metrics = score(task, evalsets / task.data, encoder, images)
                    result = record.add(task, metrics, mark)
                    if on_result is not None:
                        on_result(result)
    _raise_failures(failures, len(tasks), evalsets)
    return record.results(tasks)


def _raise_failures(failures: dict[str, str], tasks: int, evalsets: Path) -> None:
    if failures:
        raise RunError(
            f"{len(failures)} of {tasks} tasks could not be evaluated:\n  "
            + "\n  ".join(f"{key}: {message}" for key, message in failures.items()),
            where=evalsets,
            todo="the results of the others are kept; mend these sets and evaluate again",
        )


@contextlib.contextmanager
def _noting(failures: dict[str, str], task: Task) -> Iterator[None]:
    try:
        yield
    except EcoDatumError as error:
        failures[task.key] = f"{error.where}: {error.what}" if error.where else error.what
