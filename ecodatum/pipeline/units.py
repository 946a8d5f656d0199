"""Units of work: their outputs, their manifests, and what makes them done."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: Called with the number of rows, samples or tasks that were finished since the last call.
Progress = Callable[[int], None]


class Job(Protocol):
    """What a unit does; a frozen dataclass, so that it can be sent to another process."""

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write each of `outputs` (the missing ones, by key) and return counts for the manifest."""
        ...

    def parameters(self) -> dict[str, Any]:
        """Return what the result depends on besides its inputs, for the manifest."""
        ...


@dataclass(frozen=True)
class Output:
    """One file or folder that a unit makes; it is whole when its manifest says so."""

    path: Path
    fingerprint: str
    key: str = ""

    @property
    def manifest(self) -> Path:
        """The manifest, written after the output and last of all."""
        return self.path.with_name(f"{self.path.name}.manifest.json")

    def done(self) -> bool:
        """Tell whether the output is there, whole, and made from what it would be made from now."""
        try:
            return bool(self.read()["fingerprint"] == self.fingerprint) and self.path.exists()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def read(self) -> dict[str, Any]:
        """Return the manifest; raises OSError or ValueError when it is not there or damaged."""
        manifest: dict[str, Any] = json.loads(self.manifest.read_text())
        return manifest


@dataclass(frozen=True)
class Unit:
    """What one array task does: a job, its outputs, and the outputs it needs.

    size: how much work it is, in the unit's own measure (`of`), for progress bars.
    resumable: what an interrupted attempt left is kept for the next one.
    resources: what a cluster profile calls the machine that it needs; by default its stage's name.
    """

    stage: str
    name: str
    outputs: tuple[Output, ...]
    job: Job
    needs: tuple[Output, ...] = ()
    size: int = 1
    of: str = ""
    resumable: bool = False
    log: Path = field(default=Path())
    resources: str = ""

    @property
    def output(self) -> Output:
        """The only output of a unit that has one."""
        (output,) = self.outputs
        return output

    def missing(self) -> list[Output]:
        """List the outputs that are not done."""
        return [output for output in self.outputs if not output.done()]

    def done(self) -> bool:
        """Tell whether all outputs are done."""
        return not self.missing()

    @property
    def progress_file(self) -> Path:
        """Where a running attempt tells how far it is."""
        return self.log.with_suffix(".progress")


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a unit ended; `message` says why when it failed."""

    unit: str
    status: str
    message: str = ""
    seconds: float = 0.0


class ProgressFile:
    """Counts finished work into a small file, a few times a second at most."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self._written = path, 0, 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0")

    def __call__(self, finished: int) -> None:
        """Add `finished` to the count."""
        self._count += finished
        now = time.monotonic()
        if now - self._written > 0.3:
            self._path.write_text(str(self._count))
            self._written = now


def read_progress(unit: Unit) -> int:
    """Return how much of the unit is finished, as far as its last attempt has told."""
    try:
        return min(int(unit.progress_file.read_text() or 0), unit.size)
    except (OSError, ValueError):
        return 0
