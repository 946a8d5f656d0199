"""A labels file that grows by one judgement at a time, each on the disk before the next is asked for."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ecodatum.curate.labels import HEADER, csv_lines
from ecodatum.errors import ConfigError, RunError
from ecodatum.files import make_folder


@dataclass(frozen=True)
class Judgement:
    """A line of the file: which sample, the label, and where the line begins."""

    uid: str
    label: str
    offset: int


class LabelFile:
    """Appends judgements to a CSV of uid, label and source, and takes the last ones back.

    Held by one process at a time. A line that a crash cut off is dropped when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise RunError(f"cannot write: {error.strerror or error}", where=path) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError("another process is writing to it", where=path) from None
        self._path = path
        self.judgements = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, uid: str, label: str, source: str) -> None:
        """Add a judgement; it is on the disk when this returns."""
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(csv_lines([(uid, label, source)]).encode())
        os.fsync(self._file.fileno())
        self.judgements.append(Judgement(uid, label, offset))

    def undo(self) -> Judgement | None:
        """Take the last judgement back, and return it; None where there is none."""
        if not self.judgements:
            return None
        last = self.judgements.pop()
        self._cut(last.offset)
        return last

    def _read(self) -> list[Judgement]:
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._cut(whole)
        if not whole:
            self._file.write(csv_lines([HEADER]).encode())
            os.fsync(self._file.fileno())
            return []
        header, *lines = data[:whole].splitlines(keepends=True)
        if header.decode(errors="replace").strip() != ",".join(HEADER):
            raise ConfigError(
                f"is there, and no labels file: its first line is not {','.join(HEADER)}", where=self._path
            )
        found, offset = [], len(header)
        for line in lines:
            uid, label, *_ = line.decode().split(",")
            found.append(Judgement(uid, label, offset))
            offset += len(line)
        return found

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        os.fsync(self._file.fileno())
