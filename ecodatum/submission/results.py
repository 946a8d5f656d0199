"""Whether DataComp's forty results are all there, once each, and can be what they say."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.evaluate.tasks import Task, load_tasks


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an eval_results.jsonl; raises RunError, naming the line, for what is none."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot be read: {error}", where=path) from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            lines.append({"key": line["key"], "dataset": line["dataset"], "metrics": dict(line["metrics"])})
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"not a result: {error!r}", where=f"{path}, line {number}") from None
    return lines


def check_results(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with results: missing, double or unknown ones, and values that cannot be."""
    tasks = {task.key: task for task in load_tasks("datacomp")}
    count = Counter(line["key"] for line in lines)
    missing = [task.name for key, task in tasks.items() if not count[key]]
    if missing:
        yield f"{len(missing)} of {len(tasks)} tasks have no result: {_few(missing)}"
    unknown = [key for key in count if key not in tasks]
    if unknown:
        yield f"{len(unknown)} results are of no task of DataComp's: {_few(unknown)}"
    for key, times in count.items():
        if times > 1 and key in tasks:
            yield f"{tasks[key].name} has {times} results"
    for line in lines:
        if line["key"] in tasks:
            yield from _check_line(line, tasks[line["key"]])


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _check_line(line: dict[str, Any], task: Task) -> Iterator[str]:
    metrics = line["metrics"]
    if line["dataset"] != task.name:
        yield f"{task.key} is called {line['dataset']!r}, where DataComp calls it {task.name!r}"
    main = metrics.get("main_metric")
    if task.main_metric is None:
        if main is not None:
            yield f"{task.name} has a main metric, {main}, where DataComp has none"
    elif not _is_number(main):
        yield f"{task.name}: its main metric is not a number: {main}"
    elif main != (same := metrics.get(task.main_metric)):
        yield f"{task.name}: its main metric is {main}, where its {task.main_metric} is {same}"
    for name, value in metrics.items():
        if _is_number(value) and not _possible(name, value):
            yield f"{task.name}: {name} is {value}, which it cannot be"


def _is_number(value: object) -> bool:
    """Tell numbers from null and from NaN, which the metric of an empty group of samples is."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _possible(name: str, value: float) -> bool:
    return value >= 0 and (value <= 1 or name.startswith("count_"))
