"""Evaluates a checkpoint on a list of tasks: the model is loaded once, each result kept as it comes."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecodatum.errors import AssetError, EcoDatumError, RunError
from ecodatum.evaluate.encoder import Encoder
from ecodatum.evaluate.scoring import ImageFeatures, data_fingerprint, score
from ecodatum.evaluate.tasks import Task
from ecodatum.files import remove, write_json, write_text
from ecodatum.fingerprint import file_fingerprint
from ecodatum.operators import clip_models

Result = dict[str, Any]


def evaluate(
    model: str | Path,
    checkpoint: Path,
    evalsets: Path,
    tasks: Sequence[Task],
    out: Path,
    *,
    batch_size: int = 64,
    device: str = "auto",
    workers: int = 2,
    precision: str = "fp32",
    threads: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Score `checkpoint` on `tasks`, and write `out/eval_results.jsonl` as DataComp's evaluate.py does.

    `model` is a name of open_clip's or a JSON config; `evalsets` the folder of all sets; `workers` are
    decoding threads, `threads` torch's on the CPU (None: its own choice); `on_result` is called with each
    new line. Returns the lines, in the tasks' order. Results that are there already, from the same
    checkpoint and the same data, are not computed again.

    Raises AssetError when the checkpoint cannot be used. When sets are missing or damaged, the other tasks
    are finished first; then raises RunError that names them. Source: DataComp evaluate.py.
    """
    device = clip_models.choose_device(device)
    name = clip_models.register(str(model))
    if not checkpoint.is_file():
        raise AssetError("no such checkpoint", where=checkpoint)
    record = _Record(out, {"checkpoint": file_fingerprint(checkpoint), "model": name, "precision": precision})
    record.open()
    failures: dict[str, str] = {}
    waiting: list[Task] = []
    for task in tasks:
        with _noting(failures, task):
            if not record.has(task, data_fingerprint(task, evalsets / task.data)):
                waiting.append(task)
    if waiting:
        with clip_models.cpu_threads(threads if device == "cpu" else None):
            loaded = clip_models.load(name, checkpoint, device=device, precision=precision)
            encoder = Encoder(*loaded, device=device, batch_size=batch_size, workers=workers)
            folders = Counter(evalsets / task.data for task in waiting)
            images = ImageFeatures(encoder, frozenset(f for f, users in folders.items() if users > 1))
            for task in waiting:
                with _noting(failures, task):
                    metrics = score(task, evalsets / task.data, encoder, images)
                    result = record.add(task, metrics, data_fingerprint(task, evalsets / task.data))
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


@dataclass
class _Record:
    """The results in a folder, and what they are results of (eval_info.json)."""

    folder: Path
    subject: dict[str, str]

    def __post_init__(self) -> None:
        self._lines: dict[str, Result] = {}
        self._data: dict[str, str] = {}

    @property
    def _results(self) -> Path:
        return self.folder / "eval_results.jsonl"

    @property
    def _info(self) -> Path:
        return self.folder / "eval_info.json"

    def open(self) -> None:
        """Read the results that are there; those of another checkpoint or model are removed.

        Raises RunError when it isn't known what they are results of.
        """
        try:
            if self._results.exists():
                info = json.loads(self._info.read_text())
                lines = [json.loads(line) for line in self._results.read_text().splitlines()]
                if info["subject"] == self.subject:
                    self._data = info["data"]
                    self._lines = {line["key"]: line for line in lines}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"cannot tell of which checkpoint these results are: {error!r}",
                where=self._results,
                todo="use another folder, or remove this file",
            ) from error
        if not self._lines:
            remove(self._results)
        self._write_info()

    def has(self, task: Task, data: str) -> bool:
        """Tell whether there is a result of the task for the data with this fingerprint."""
        return task.key in self._lines and self._data.get(task.key) == data

    def add(self, task: Task, metrics: dict[str, float | None], data: str) -> Result:
        """Keep a task's result, on disk as well, and return its line."""
        main = None if task.main_metric is None else metrics[task.main_metric]
        line = {"key": task.key, "dataset": task.name, "metrics": {**metrics, "main_metric": main}}
        self._lines[task.key], self._data[task.key] = line, data
        # The result first: when killed in between, it has no data's fingerprint and is computed again.
        self._write_results()
        self._write_info()
        return line

    def results(self, tasks: Sequence[Task]) -> list[Result]:
        """Return the lines of `tasks` in their order; in the file they now stand so, before any others."""
        lines = {task.key: self._lines[task.key] for task in tasks}
        ordered = lines | self._lines
        if list(ordered) != list(self._lines):
            self._lines = ordered
            self._write_results()
        return list(lines.values())

    def _write_results(self) -> None:
        write_text(self._results, "".join(json.dumps(line) + "\n" for line in self._lines.values()))

    def _write_info(self) -> None:
        write_json(self._info, {"subject": self.subject, "data": self._data})
