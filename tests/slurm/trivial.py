"""Units that do next to nothing, and tell how often they were done."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.pipeline.units import Output, Progress, Unit


@dataclass(frozen=True)
class Join:
    """Writes its name and what its inputs hold.

    It fails while `fails_while` exists, and takes `seconds` while `slow_while` does.
    """

    name: str
    inputs: tuple[Path, ...]
    attempts: Path
    seconds: float = 0.0
    slow_while: Path | None = None
    fails_while: Path | None = None
    size: int = 0

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the file."""
        slow = self.slow_while is not None and self.slow_while.exists()
        (self.attempts / f"{self.name}-{uuid.uuid4().hex}").touch()
        if self.fails_while is not None and self.fails_while.exists():
            raise RunError("cannot be done now", where=self.name)
        text = self.name + "".join(f"({path.read_text()})" for path in self.inputs)
        with outputs[""].open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            if slow:
                time.sleep(self.seconds)
            file.write(text[len(text) // 2 :] + " " * self.size)
        progress(1)
        return {}

    def parameters(self) -> dict[str, Any]:
        """Return the name."""
        return {"name": self.name}


def chain(
    work: Path, width: int, *, stages: tuple[str, ...] = ("first", "second", "third"), **job: Any
) -> list[Unit]:
    """Return the units of a chain: `width` units, as many more that need one of those each, and one for all.

    job: what the jobs of the first stage get besides.
    """
    attempts = work / "attempts"
    attempts.mkdir(parents=True, exist_ok=True)
    ones = [_unit(work, "first", f"a{i}", (), **job) for i in range(width)]
    twos = [_unit(work, "second", f"b{i}", (one.output,)) for i, one in enumerate(ones)]
    return [*ones, *twos, _unit(work, "third", "c", tuple(two.output for two in twos))]


def _unit(work: Path, stage: str, name: str, needs: tuple[Output, ...], **job: Any) -> Unit:
    output = Output(work / "made" / name, name)
    does = Join(name, tuple(need.path for need in needs), work / "attempts", **job)
    return Unit(stage, name, (output,), does, needs, log=work / "trivial" / "logs" / stage / f"{name}.log")


def made(work: Path) -> dict[str, str]:
    """Return what the units made, whole or not, with every other file beside it."""
    return {path.name: path.read_text() for path in (work / "made").iterdir() if "manifest" not in path.name}


def attempts(work: Path) -> dict[str, int]:
    """Return how often each unit was begun."""
    names = [path.name.partition("-")[0] for path in (work / "attempts").iterdir()]
    return {name: names.count(name) for name in set(names)}
