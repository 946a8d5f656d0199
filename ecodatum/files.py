"""Writes files so that nothing partial is ever seen under a final name."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, a file or folder; rename it to `path` if the block succeeds.

    The temporary name ends in `.tmp-<pid>`; a leftover of a killed process is never read and is
    swept by the next writer of the same path. Raises RunError when the place cannot be written to.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    make_folder(path.parent)
    try:
        _sweep(path)
        yield temporary
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        remove(temporary)
        raise RunError(f"cannot write: {error.strerror or error}", where=path) from error
    except BaseException:
        remove(temporary)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, and see that it can be written to; raises RunError otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"cannot write here: {error.strerror or error}",
            where=folder,
            todo="choose a folder that you may write to, and that has room (--work, --out)",
        ) from error


def _sweep(path: Path) -> None:
    """Remove temporaries of `path` whose process is gone."""
    for left in path.parent.glob(f"{path.name}.tmp-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, all or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, all or nothing."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
