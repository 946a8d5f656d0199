"""Locations: folders and files on this machine, or in a bucket or another store that fsspec knows."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from upath import UPath

from ecodatum.errors import ConfigError
from ecodatum.files import remove, replacing

_COPY_BYTES: Final = 1 << 23


def location(text: str) -> Path:
    """Return the path that `text` stands for: `s3://bucket/pool`, or one on this machine.

    A path of another store is a `UPath`, which has the methods of Path that this package uses on pools.
    Raises ConfigError when the store's protocol is unknown, or needs a package that is not installed.
    """
    protocol, found, _ = text.partition("://")
    if not found:
        return Path(text).expanduser().resolve()
    try:
        path = UPath(text)
        path.fs  # noqa: B018 (it is made now, and fails now)
    except ImportError as error:
        todo = "pip install 'ecodatum[s3]'" if protocol == "s3" else f"pip install 'fsspec[{protocol}]'"
        raise ConfigError(f"needs another package: {error}", where=text, todo=todo) from error
    except ValueError as error:
        raise ConfigError(f"unknown kind of location: {error}", where=text) from error
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Tell whether a path is in a store that is read and written through fsspec."""
    return isinstance(path, UPath)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file from any place to any other, all or nothing."""
    with source.open("rb") as file, _whole(target) as there:
        shutil.copyfileobj(file, there, _COPY_BYTES)


def write_whole(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to any place, all or nothing."""
    with _whole(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that is seen when it is whole: stores see to that themselves."""
    if is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file
        return
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield file


def remove_folder(path: Path) -> None:
    """Remove a folder in any place, with all that is in it, if it is there."""
    if not is_remote(path):
        remove(path)
    elif path.exists():
        there = cast(UPath, cast(object, path))
        there.fs.rm(there.path, recursive=True)
