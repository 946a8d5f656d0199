"""Ten thousand units of a trivial stage to a private Slurm: seconds to submit, and to tell the status.

Run by hand: `python -m tests.benchmarks.slurm_submission [UNITS] [MAX_TASKS]`. Nothing of it is run by Slurm,
since the node is drained; half of the units are then done by hand, as many manifests as that gives.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ecodatum.launch.profile import Profile, Resources
from ecodatum.pipeline.execution import run_unit
from ecodatum.pipeline.submission import cancel_all, submit
from ecodatum.pipeline.units import Unit
from tests.conftest import ROOT
from tests.slurm.trivial import chain


def timed(*command: str) -> float:
    """Run a command and return its seconds."""
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


def submitted(units: list[Unit], folder: Path, max_tasks: int) -> None:
    """Submit the units, and print how long it took."""
    profile = Profile(max_tasks=max_tasks, default=Resources(memory_gb=0.1))
    sizes: list[int] = []
    started = time.monotonic()
    packed = submit(units, profile, folder, {}, told=lambda stage, job, tasks: sizes.append(tasks))
    seconds = time.monotonic() - started
    print(
        f"{packed.units:,} units in {packed.tasks:,} tasks, {len(sizes)} arrays of at most {max(sizes):,}:"
        f" submitted in {seconds:.1f} s",
        flush=True,
    )


def main() -> None:
    """Measure, and print the figures."""
    count, max_tasks = (int(text) for text in (*sys.argv[1:], "10000", "12000")[:2])
    script = str(ROOT / "slurm" / "private-slurm")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        subprocess.run([script, "start", name], check=True, capture_output=True)
        os.environ["SLURM_CONF"] = str(Path(name) / "slurm.conf")
        try:
            node = subprocess.run(["sinfo", "-h", "-o", "%N"], check=True, capture_output=True, text=True)
            drain = [
                "scontrol",
                "update",
                f"nodename={node.stdout.strip()}",
                "state=drain",
                "reason=benchmark",
            ]
            subprocess.run(drain, check=True)
            work = Path(name) / "work"
            units = chain(work, count)[:count]
            submitted(units, work / "trivial", max_tasks)
            show = [sys.executable, "-m", "ecodatum", "status", "trivial", "--work", str(work)]
            print(f"status, all of them in the queue: {timed(*show):.2f} s", flush=True)
            for unit in units[: count // 2]:
                run_unit(unit)
            print(f"status, half of them done: {timed(*show):.2f} s", flush=True)
            cancel_all(work / "trivial")
            print(f"status, the rest cancelled: {timed(*show):.2f} s", flush=True)
        finally:
            subprocess.run([script, "stop", name], check=True, capture_output=True)


if __name__ == "__main__":
    main()
