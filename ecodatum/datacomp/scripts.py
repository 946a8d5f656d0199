"""DataComp's scripts: runs them unmodified under the compatibility layer, and checks what works here."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ecodatum.datacomp.checkout import Checkout
from ecodatum.datacomp.layer.aliases import SCALE_VARIABLE
from ecodatum.datacomp.layer.submission import SENT_VARIABLE
from ecodatum.errors import ConfigError, RunError
from ecodatum.files import write_json

_LAYER: Final = Path(__file__).with_name("layer")
_WATCH_SECONDS: Final = 0.5

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


@dataclass(frozen=True)
class OwnScale:
    """A scale or a model of one's own, of which the scripts know nothing.

    `config` is in the form of DataComp's scale_configs.py; `model` is a config of open_clip's, by its
    name, or None where open_clip has it. `arguments` are added to those that train.py hands to open_clip,
    and the flags of `without` are left out.
    """

    name: str
    config: Mapping[str, Any]
    model: tuple[str, Mapping[str, Any]] | None
    arguments: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write what the aliases read into a folder, and return the file that they are told of."""
        path = None
        if self.model is not None:
            name, config = self.model
            path = (folder / f"{name}.json").resolve()  # its stem is the name that open_clip gives it
            write_json(path, config)
        described = {**asdict(self), "model_config": None if path is None else str(path)}
        write_json(folder / "own_scale.json", described)
        return (folder / "own_scale.json").resolve()


def environment(
    own_scale: Path | None = None, *, on_cpu: bool = False, sent: Path | None = None
) -> dict[str, str]:
    """Return the variables that a script, and every process it starts, runs with.

    `own_scale` is the file that `OwnScale.write` returned; `on_cpu` hides the GPUs, since the scripts take
    one where there is one; `sent` is where a submission notes what has arrived.
    """
    paths = [str(_LAYER), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "NO_ALBUMENTATIONS_UPDATE": "1",  # img2dataset's dependency would ask the network for its version
    }
    variables.pop(SCALE_VARIABLE, None)
    variables.pop(SENT_VARIABLE, None)
    if on_cpu:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    if own_scale is not None:
        variables[SCALE_VARIABLE] = str(own_scale)
    if sent is not None:
        variables[SENT_VARIABLE] = str(sent)
    return variables


def start(
    checkout: Checkout,
    script: str,
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    own_scale: Path | None = None,
    on_cpu: bool = False,
    sent: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a script in a child process that prints where this one does, and does not outlive it.

    Raises ConfigError or AssetError when there is nothing to start. Options are as for `environment`.
    """
    if script not in LIMITS:
        known = ", ".join(LIMITS)
        raise ConfigError("no script of DataComp that runs here", where=script, todo=f"one of {known}")
    command = [python, str(checkout.script(script)), *arguments]
    variables = environment(own_scale, on_cpu=on_cpu, sent=sent)
    try:
        return subprocess.Popen(command, env=variables, preexec_fn=_end_with_the_parent)
    except OSError as error:
        raise ConfigError(f"cannot be run: {error.strerror}", where=python) from error


def run(
    checkout: Checkout,
    script: str,
    arguments: Sequence[str],
    *,
    own_scale: Path | None,
    on_cpu: bool,
    watch: Callable[[], None],
    sent: Path | None = None,
) -> None:
    """Run a script to its end, calling `watch` again and again meanwhile.

    Raises RunError when it fails; when `watch` raises, the script is stopped.
    """
    process = start(checkout, script, arguments, own_scale=own_scale, on_cpu=on_cpu, sent=sent)
    try:
        while process.poll() is None:
            watch()
            time.sleep(_WATCH_SECONDS)
        watch()
    finally:
        _stop(process)
    if process.returncode:
        raise RunError(
            f"ended with {process.returncode}", where=checkout.path / script, todo="what it printed says why"
        )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_the_parent() -> None:
    """Have Linux end this process when its parent is killed: two trainings would write one folder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


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
