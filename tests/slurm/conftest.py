"""One private Slurm for the tests, of real daemons; they skip where Debian's packages are not installed."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ecodatum.launch.profile import Profile, Resources
from ecodatum.pipeline.attempts import read_attempt
from ecodatum.pipeline.status import Status, read_status
from ecodatum.pipeline.submission import Packed, submit
from ecodatum.pipeline.units import Unit
from tests.conftest import ROOT
from tests.slurm.trivial import Join, attempts

#: How long anything may take here before a test gives up, in seconds.
PATIENCE = 120


@dataclass
class PrivateSlurm:
    """The daemons of a private Slurm, and what the tests do with them."""

    folder: Path

    def script(self, command: str) -> None:
        """Run slurm/private-slurm."""
        script = [str(ROOT / "slurm" / "private-slurm"), command, str(self.folder)]
        subprocess.run(script, check=True, capture_output=True, timeout=PATIENCE)

    def pid(self, daemon: str) -> int:
        """Return a daemon's process id."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def __call__(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def profile(*, memory_gb: float = 0.5, **changes: Any) -> Profile:
    """Return a profile for the private Slurm; keys of Resources go to its default."""
    own = {key: changes.pop(key) for key in list(changes) if key in Resources.model_fields}
    resources = Resources(**{"hours": 0.5, "memory_gb": memory_gb, "parallel": 8, **own})
    return Profile(**{"signal_seconds": 30, "visible_after_seconds": 0, "default": resources, **changes})


def send(units: Sequence[Unit], work: Path, **changes: Any) -> Packed:
    """Submit units as the experiment `trivial`."""
    return submit(units, profile(**changes), work / "trivial", {})


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def ended(work: Path, name: str = "trivial") -> Status:
    """Wait until nothing of the experiment is in the queue, and return its status."""
    until(lambda: (status := read_status(work / name)).asked and not status.queued)
    return read_status(work / name)


def running(unit: Unit) -> int:
    """Wait until a unit's job runs, and return the id of its process."""
    job = unit.job
    assert isinstance(job, Join)
    until(lambda: attempts(job.attempts.parent).get(job.name) and read_attempt(unit.log))
    attempt = read_attempt(unit.log)
    assert attempt is not None
    return attempt.pid


def task_of(unit: Unit) -> str:
    """Return the array task that does a unit that runs."""
    return str(json.loads(unit.log.with_suffix(".attempt.json").read_text())["task"])


@pytest.fixture(scope="session")
def daemons() -> Iterator[PrivateSlurm]:
    for program in ("slurmctld", "slurmd", "munged", "sbatch"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{program} is not installed (apt install slurm-wlm munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets' paths must be short
    private = PrivateSlurm(folder)
    private.script("start")
    yield private
    private.script("stop")
    shutil.rmtree(folder)


@pytest.fixture
def slurm(daemons: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSlurm]:
    """Return the private Slurm, for the duration of a test the one that Slurm's commands talk to."""
    monkeypatch.setenv("SLURM_CONF", str(daemons.folder / "slurm.conf"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)  # where the jobs find the tests' own units
    yield daemons
    monkeypatch.setenv("SLURM_CONF", str(daemons.folder / "slurm.conf"))
    daemons("scancel", "--user", str(os.getuid()))
    until(lambda: daemons("squeue", "--noheader") == "")
