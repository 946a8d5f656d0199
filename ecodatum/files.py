"""Writes files so that nothing partial is ever seen under a final name, nor one file made twice at a time."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: After how long without a write another host's temporary is taken for a dead process's.
_FORSAKEN_SECONDS = 24 * 3600


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, a file or folder; rename it to `path` if the block succeeds.

    The temporary name ends in `.tmp-<host>-<pid>`; a leftover of a killed process is never read and is
    swept by the next writer of the same path, another host's after a day. Raises RunError when the place
    cannot be written to.
    """
    temporary = path.with_name(f"{path.name}.tmp-{platform.node()}-{os.getpid()}")
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
        host, _, pid = left.name.removeprefix(f"{path.name}.tmp-").rpartition("-")
        ours = host == platform.node()
        if not Path(f"/proc/{pid}").exists() if ours else _age(left) > _FORSAKEN_SECONDS:
            remove(left)


def _age(path: Path) -> float:
    """Return the seconds since the last write to a file, or to anything in a folder."""
    times = [0.0]
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    return time.time() - max(times)


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


def settle(path: Path) -> None:
    """Have a file, or all of a folder, written to its disk, so that a crash of the node cannot undo it."""
    for file in (*path.rglob("*"), path, path.parent):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems don't take it for folders
                raise
        finally:
            os.close(handle)


def refresh(folder: Path) -> None:
    """Have a shared file system ask its server for the names in a folder, which it may remember wrongly."""
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[bool]:
    """Hold a lock file, waiting for whoever holds it; yield False where the file system knows no locks.

    The lock is freed when its process ends, however it does.
    """
    make_folder(lock.parent)
    handle = _lock(lock)
    try:
        yield handle is not None
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        if handle is not None:
            os.close(handle)


def _lock(lock: Path) -> int | None:
    """Return a locked handle of the lock file that bears the name when it is locked."""
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise
            logging.warning("%s: no locks on this file system; let no two launches make the same", lock)
            return None
        with contextlib.suppress(OSError):
            if lock.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # whoever held it has removed the file meanwhile
