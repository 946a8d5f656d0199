"""Runs units: temporary names, locks, logs and manifests; nothing half-done is ever taken for whole."""

import contextlib
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ecodatum import __version__
from ecodatum.errors import EcoDatumError, RunError
from ecodatum.files import locked, make_folder, refresh, remove, replacing, settle, write_json
from ecodatum.fingerprint import content_fingerprints
from ecodatum.launch.slurm import this_task
from ecodatum.pipeline.attempts import Attempt, forget, note
from ecodatum.pipeline.units import Outcome, Output, ProgressFile, Unit

_LIBRARIES = ("numpy", "pyarrow", "pillow", "torch", "open_clip_torch", "snorkel", "webdataset")


#: Called with where a unit's outputs are being written, when its job begins.
Begins = Callable[[Mapping[str, Path]], None]


def run_units(units: Sequence[Unit]) -> list[Outcome]:
    """Run units one after another; one that fails does not stop the others."""
    return [run_unit(unit) for unit in units]


def run_unit(unit: Unit, *, patience: float = 0.0, begins: Begins = lambda places: None) -> Outcome:
    """Run one unit unless it is done, or a unit that it needs is not.

    patience: until when (by `time.monotonic`) an input that is not seen may yet come into sight.
    """
    started = time.monotonic()
    absent = _absent(unit, patience)
    if absent:
        outcome = Outcome(unit.name, "blocked", f"needs {absent.path}, which is not done")
    else:
        note(unit, Attempt.of("running"))
        outcome = _attempt(unit, started, begins)
    if outcome.status in {"failed", "blocked"}:
        missing = str(absent.path) if absent else ""
        note(unit, Attempt.of(outcome.status, outcome.message, outcome.seconds, missing))
    else:
        forget(unit)
    return outcome


def _absent(unit: Unit, patience: float) -> Output | None:
    """Return an input that is not done; on a shared file system what is done may be seen a little later."""
    while True:
        absent = next((output for output in unit.needs if not output.done()), None)
        if absent is None or time.monotonic() > patience:
            return absent
        refresh(absent.path.parent)
        time.sleep(0.5)


def _attempt(unit: Unit, started: float, begins: Begins) -> Outcome:
    try:
        with _logged(unit), locked(unit.outputs[0].path.with_name(f"{unit.outputs[0].path.name}.lock")):
            if not unit.missing():
                return Outcome(unit.name, "done")
            logging.info("%s: %s", unit.stage, unit.name)
            try:
                _make(unit, started, begins)
            except EcoDatumError as error:
                logging.error("%s", error)
                raise
            except Exception:
                logging.exception("%s failed", unit.name)
                raise
    except EcoDatumError as error:
        return Outcome(unit.name, "failed", str(error), time.monotonic() - started)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        return Outcome(
            unit.name, "failed", f"{why}\n  the whole trace is in {unit.log}", time.monotonic() - started
        )
    return Outcome(unit.name, "ran", seconds=time.monotonic() - started)


def _make(unit: Unit, started: float, begins: Begins) -> None:
    missing = unit.missing()
    with contextlib.ExitStack() as stack:
        places = {output.key: stack.enter_context(_place(output, unit.resumable)) for output in missing}
        for output in missing:
            output.manifest.unlink(missing_ok=True)
        begins(places)
        counts = unit.job.run(places, ProgressFile(unit.progress_file))
    for output in missing:
        settle(output.path)
        _write_manifest(unit, output, counts, time.monotonic() - started)


@contextlib.contextmanager
def _place(output: Output, resumable: bool) -> Iterator[Path]:
    """Yield where to write an output: a temporary name, or one that outlives an interruption."""
    if not resumable:
        with replacing(output.path) as temporary:
            yield temporary
        return
    partial = output.path.with_name(f"{output.path.name}.partial-{output.fingerprint}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        remove(output.path)
        partial.rename(output.path)
    except OSError as error:
        raise RunError(f"cannot write: {error.strerror or error}", where=output.path) from error


def _write_manifest(unit: Unit, output: Output, counts: Mapping[str, Any], seconds: float) -> None:
    manifest = output.manifest
    write_json(
        manifest,
        {
            "stage": unit.stage,
            "unit": unit.name,
            "fingerprint": output.fingerprint,
            "inputs": {str(need.path.name): need.fingerprint for need in unit.needs},
            "parameters": unit.job.parameters(),
            "content": content_fingerprints(output.path),
            "counts": counts.get(output.key, counts) if output.key else counts,
            "seconds": round(seconds, 3),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": platform.node(),
            "task": this_task(),
            "versions": versions(),
        },
    )
    settle(manifest)


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that results depend on."""
    found = {"ecodatum": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


@contextlib.contextmanager
def _logged(unit: Unit) -> Iterator[None]:
    """Send all that is printed or logged, by this process and its children, to the unit's log file."""
    make_folder(unit.log.parent)
    log = unit.log.open("a", encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk: what failed before tells of it
            sys.stdout.flush()
            sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        os.close(saved[0])
        os.close(saved[1])
        root.handlers[:] = handlers
        root.setLevel(level)
        with contextlib.suppress(OSError):
            log.close()
