"""What became of a unit's last attempt, beside its log: known also when no scheduler remembers it."""

import contextlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.files import write_json
from ecodatum.launch.slurm import this_task
from ecodatum.pipeline.units import Unit


@dataclass(frozen=True)
class Attempt:
    """An attempt that runs, or that failed or was blocked; of one that succeeded, the manifest tells.

    needs: the input that was not there. task: Slurm's id of the array task, if it was one.
    """

    status: str
    message: str
    needs: str
    task: str | None
    host: str
    pid: int
    time: str
    seconds: float

    @classmethod
    def of(cls, status: str, message: str = "", seconds: float = 0.0, needs: str = "") -> "Attempt":
        """Return an attempt by this process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(status, message, needs, this_task(), platform.node(), os.getpid(), now, round(seconds, 1))


def attempt_file(log: Path) -> Path:
    """Return where a unit's attempt is noted, given its log."""
    return log.with_suffix(".attempt.json")


def note(unit: Unit, attempt: Attempt) -> None:
    """Write down an attempt; a place that cannot be written to fails the unit, not this."""
    with contextlib.suppress(RunError, OSError):
        write_json(attempt_file(unit.log), asdict(attempt))


def forget(unit: Unit) -> None:
    """Remove what was written down: the unit is done."""
    with contextlib.suppress(OSError):
        attempt_file(unit.log).unlink()


def read_attempt(log: Path) -> Attempt | None:
    """Return the last attempt at a unit, given its log; None when there was none, or the unit is done."""
    try:
        found: dict[str, Any] = json.loads(attempt_file(log).read_text(encoding="utf-8"))
        return Attempt(**found)
    except (OSError, ValueError, TypeError):
        return None
