"""Reads what open_clip's trainer logs: how far a training is, and its curve."""

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecodatum.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

_NUMBER: Final = r"[-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?)"
_LINE: Final = re.compile(
    r"Train Epoch: (?P<epoch>\d+) \[ *(?P<done>\d+)/(?P<samples>\d+) .*?"
    rf"(?P<speed>{_NUMBER})/s, .*?LR: (?P<rate>{_NUMBER}) .* Loss: (?P<loss>{_NUMBER}) "
)
_TAIL_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the trainer's log; counts are of samples, `images_per_second` over all processes."""

    epoch: int
    epoch_samples: int
    samples_seen: int
    loss: float
    learning_rate: float
    images_per_second: float

    @property
    def diverged(self) -> bool:
        """Whether the loss is no longer a number."""
        return not math.isfinite(self.loss)


def parse_line(line: str) -> Progress | None:
    """Return what a line of the log says about the training, or None for any other line."""
    match = _LINE.search(line)
    if match is None:
        return None
    epoch, samples = int(match["epoch"]), int(match["samples"])
    return Progress(
        epoch=epoch,
        epoch_samples=samples,
        samples_seen=epoch * samples + int(match["done"]),
        loss=float(match["loss"]),
        learning_rate=float(match["rate"]),
        images_per_second=float(match["speed"]),
    )


def read_progress(log: Path) -> Progress | None:
    """Return the last progress in an `out.log` that may still grow; None when there is none yet.

    Only the end of the file is read, so that it can be asked for often.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except FileNotFoundError:
        return None
    return next(filter(None, map(parse_line, reversed(tail.splitlines()))), None)


def training_curve(out: Path) -> "pd.DataFrame":
    """Return the loss over a training as a frame: step, samples_seen, loss, learning_rate, images_per_second.

    `out` is the training's folder, the one that holds `out.log`. What an interrupted run had logged and
    its resumption logged again appears once, as the resumption has it. Raises RunError without a log.
    """
    import pandas as pd

    log = out / "out.log"
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            points = list(_without_undone(filter(None, map(parse_line, lines))))
    except FileNotFoundError:
        raise RunError("no log of a training here", where=log) from None
    columns = {
        "samples_seen": [point.samples_seen for point in points],
        "loss": [point.loss for point in points],
        "learning_rate": [point.learning_rate for point in points],
        "images_per_second": [point.images_per_second for point in points],
    }
    curve = pd.DataFrame(columns).astype({"samples_seen": "int64"})
    # The first line of an epoch is logged after its first step.
    batch = min((point.samples_seen - point.epoch * point.epoch_samples for point in points), default=1)
    curve.insert(0, "step", curve["samples_seen"] // batch)
    return curve


def _without_undone(points: Iterable[Progress]) -> Iterator[Progress]:
    """Drop the points that a later resumption went back behind."""
    kept: list[Progress] = []
    for point in points:
        while kept and kept[-1].samples_seen >= point.samples_seen:
            kept.pop()
        kept.append(point)
    return iter(kept)
