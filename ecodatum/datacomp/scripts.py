"""DataComp's scripts: runs them unmodified under the compatibility layer, and checks what works here."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecodatum.datacomp.checkout import Checkout
from ecodatum.datacomp.layer.aliases import SCALE_VARIABLE
from ecodatum.errors import ConfigError

_LAYER: Final = Path(__file__).with_name("layer")

#: The scripts that run, with what of each cannot be saved.
LIMITS: Final[Mapping[str, str]] = {
    "baselines.py": "laion2b needs gcld3; image_based takes the CPU where there is no GPU",
    "resharder.py": "--apply-blur needs img2dataset; ends with 0 even when its workers die: compare"
    " worker_success and processed_count in meta.json",
    "train.py": "--blur_field: open_clip has no such option any more; runs are not repeatable",
    "evaluate.py": "needs webdataset 0.2.86 (it cuts a pipeline after five steps); one task after another",
    "aggregate_scores.py": "results of all 38 tasks are needed",
    "download_upstream.py": "needs img2dataset, which may lie in another Python (--python)",
}


def environment(own_scale: Path | None = None) -> dict[str, str]:
    """Return the variables that a script, and every process it starts, runs with.

    `own_scale` is the description of a scale of one's own, as `ecodatum.train.datacomp` writes it.
    """
    paths = [str(_LAYER), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "NO_ALBUMENTATIONS_UPDATE": "1",  # img2dataset's dependency would ask the network for its version
    }
    variables.pop(SCALE_VARIABLE, None)
    if own_scale is not None:
        variables[SCALE_VARIABLE] = str(own_scale)
    return variables


def start(
    checkout: Checkout,
    script: str,
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    own_scale: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a script in a child process that prints where this one does; raises ConfigError, AssetError."""
    if script not in LIMITS:
        raise ConfigError(
            "no script of DataComp that runs here", where=script, todo=f"one of {', '.join(LIMITS)}"
        )
    command = [python, str(checkout.script(script)), *arguments]
    try:
        return subprocess.Popen(command, env=environment(own_scale))
    except OSError as error:
        raise ConfigError(f"cannot be run: {error.strerror}", where=python) from error


@dataclass(frozen=True)
class Checked:
    """Whether a script starts here; why not, or what of it doesn't work anywhere."""

    script: str
    works: bool
    note: str


def check(checkout: Checkout, python: str = sys.executable) -> list[Checked]:
    """Start every script with `--help`, which imports all that it uses, and tell how that ended."""

    def one(script: str) -> Checked:
        command = [python, str(checkout.path / script), "--help"]
        ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        lines = ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"]
        return Checked(script, ended.returncode == 0, LIMITS[script] if ended.returncode == 0 else lines[-1])

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, LIMITS))
