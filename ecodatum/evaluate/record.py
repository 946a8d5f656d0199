"""An evaluation's results on disk, as DataComp's evaluate.py writes them, and what they are results of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ecodatum.errors import RunError
from ecodatum.evaluate.tasks import Task
from ecodatum.files import remove, write_json, write_text
from ecodatum.fingerprint import file_fingerprint

#: A line of eval_results.jsonl: `key`, `dataset` and `metrics`.
Result = dict[str, Any]

_INFO: Final = "eval_info.json"


@dataclass
class Record:
    """The results in a folder (eval_results.jsonl), and what they are results of (eval_info.json)."""

    folder: Path
    subject: dict[str, str]

    def __post_init__(self) -> None:
        self._lines: dict[str, Result] = {}
        self._data: dict[str, str] = {}

    @classmethod
    def of(cls, folder: Path, checkpoint: Path, model: str, precision: str) -> Self:
        """Return the record of a checkpoint's results, `model` being open_clip's name of its model."""
        subject = {"checkpoint": file_fingerprint(checkpoint), "model": model, "precision": precision}
        return cls(folder, subject)

    @property
    def results_file(self) -> Path:
        """The file of results."""
        return self.folder / "eval_results.jsonl"

    @property
    def _info(self) -> Path:
        return self.folder / _INFO

    def open(self) -> None:
        """Read the results that are there; those of another checkpoint or model are removed.

        Raises RunError when it isn't known what they are results of.
        """
        try:
            if self.results_file.exists():
                info = json.loads(self._info.read_text())
                if info["subject"] == self.subject:
                    self._data = info["data"]
                    self.read_lines()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"cannot tell of which checkpoint these results are: {error!r}",
                where=self.results_file,
                todo="use another folder, or remove this file",
            ) from error
        if not self._lines:
            remove(self.results_file)
        self._write_info()

    def expect(self, data: Mapping[str, str]) -> int:
        """Keep the results for data with these fingerprints, by task, and return how many those are.

        Lines that another program adds to the file afterwards are taken for results of that data.
        """
        self._lines = {
            key: line for key, line in self._lines.items() if key in data and self._data.get(key) == data[key]
        }
        self._data = dict(data)
        self._write_results()
        self._write_info()
        return len(self._lines)

    def read_lines(self) -> list[Result]:
        """Return the lines that are in the file now, whoever wrote them; one that is being written is not."""
        whole = self.results_file.read_text(encoding="utf-8").rpartition("\n")[0]
        lines: list[Result] = [json.loads(line) for line in whole.splitlines()]
        self._lines = {line["key"]: line for line in lines}
        return lines

    @classmethod
    def join(cls, parts: Sequence[Path], tasks: Sequence[Task], folder: Path) -> int:
        """Write to `folder` what the records in `parts` hold, in the tasks' order, and return its lines.

        Raises RunError when a part cannot be read, is of another checkpoint, or a task is in none.
        """
        infos = []
        joined = cls(folder, {})
        for part in parts:
            try:
                infos.append(json.loads((part / _INFO).read_text()))
                joined._lines |= {line["key"]: line for line in cls(part, {}).read_lines()}
                joined._data |= infos[-1]["data"]
                joined.subject = infos[-1]["subject"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"cannot be read: {error!r}", where=part) from error
        missing = [task.key for task in tasks if task.key not in joined._lines]
        if missing or any(info["subject"] != joined.subject for info in infos):
            what = f"have no result of {', '.join(missing)}" if missing else "are of several checkpoints"
            raise RunError(f"the parts of an evaluation {what}", where=folder)
        joined._lines = {task.key: joined._lines[task.key] for task in tasks}
        joined._write_results()
        joined._write_info()
        return len(joined._lines)

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
        write_text(self.results_file, "".join(json.dumps(line) + "\n" for line in self._lines.values()))

    def _write_info(self) -> None:
        write_json(self._info, {"subject": self.subject, "data": self._data})
