"""Embeddings of a part: arrays of the npz beside its metadata, read a few rows at a time."""

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ecodatum.errors import PoolError
from ecodatum.pool.pool import Part

_VERSIONS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class _Stream:
    """One array of an npz, (rows, width), open at its first unread row."""

    name: str
    file: IO[bytes]
    width: int
    dtype: np.dtype[Any]

    def read(self, rows: int) -> npt.NDArray[Any]:
        size = rows * self.width * self.dtype.itemsize
        data = self.file.read(size)
        if len(data) != size:
            raise ValueError(f"{self.name} ends before its last row")
        return np.frombuffer(data, self.dtype).reshape(rows, self.width)


class Embeddings:
    """The open arrays of a part's npz, at a row of it."""

    def __init__(self, part: Part, streams: Sequence[_Stream]) -> None:
        self._part, self._streams = part, streams

    def read(self, rows: int) -> dict[str, npt.NDArray[Any]]:
        """Return the next rows of each array, (rows, width), by name; raises PoolError for damage."""
        with _damage(self._part):
            return {stream.name: stream.read(rows) for stream in self._streams}


@contextlib.contextmanager
def open_embeddings(part: Part, names: Sequence[str]) -> Iterator[Embeddings]:
    """Open the named arrays of a part's npz for reading in the order of its metadata rows.

    Raises PoolError when the file or an array is missing, damaged, or has not a row for each of the
    part's.
    """
    with contextlib.ExitStack() as files:
        with _damage(part):
            archive = files.enter_context(zipfile.ZipFile(part.embeddings))
            streams = [_open(archive, name, part, files) for name in names]
        yield Embeddings(part, streams)


def _open(archive: zipfile.ZipFile, name: str, part: Part, files: contextlib.ExitStack) -> _Stream:
    known = [entry.removesuffix(".npy") for entry in archive.namelist()]
    if name not in known:
        raise PoolError(
            f"there is no array {name}", where=part.embeddings, todo=f"it has: {', '.join(known)}"
        )
    file = files.enter_context(archive.open(f"{name}.npy"))
    shape, by_column, dtype = _VERSIONS[np.lib.format.read_magic(file)](file)
    if len(shape) != 2 or by_column or not np.issubdtype(dtype, np.floating):
        raise PoolError(f"{name} is no array of rows: {shape} {dtype}", where=part.embeddings)
    if shape[0] != part.rows:
        raise PoolError(
            f"{name} has {shape[0]} rows, the metadata {part.rows}",
            where=part.embeddings,
            todo="the npz and the parquet are not of the same part",
        )
    return _Stream(name, file, shape[1], dtype)


@contextlib.contextmanager
def _damage(part: Part) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise PoolError("the part has no embeddings", where=part.embeddings) from None
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError) as error:
        raise PoolError(
            f"damaged embeddings: {error}", where=part.embeddings, todo="fetch this file again"
        ) from error
