"""Labels: which samples a person, or the way they were made, says to keep; a CSV of uid, label, source."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ecodatum.errors import ConfigError, PoolError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.uids import UidArray

#: The columns of a labels file. `source` tells where the label is from: `person`, `trusted`, `blurred` ...
HEADER: Final = ("uid", "label", "source")
KEEP, DROP = "keep", "drop"

#: The labels file of a labelled set, which is otherwise a pool.
LABELS_FILE: Final = "labels.csv"


@dataclass(frozen=True)
class Labels:
    """Labelled samples: uids, (n,) ascending, and whether each is good, (n,) bool."""

    uids: UidArray
    good: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.intp]) -> "Labels":
        """Return some of the labels, in their order."""
        return Labels(self.uids[rows], self.good[rows])


def labels_path(path: Path) -> Path:
    """Return the labels file that `path` stands for: itself, or the one in a labelled set's folder."""
    return path / LABELS_FILE if path.is_dir() else path


def read_labels(path: Path) -> Labels:
    """Read a labels file, or that of a labelled set's folder.

    A uid that stands there twice counts once. Raises ConfigError, naming the line, for what is no label,
    for a uid with two different labels, and where not both labels occur.
    """
    file = labels_path(path)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise ConfigError("no such labels file", where=file, todo="`ecodatum labels` makes one") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"cannot be read as CSV: {error}", where=file) from None
    missing = [name for name in HEADER[:2] if name not in table.columns]
    if missing:
        raise ConfigError(f"has no column {', '.join(missing)}", where=file, todo=f"needs {','.join(HEADER)}")
    wrong = np.flatnonzero(~table["label"].isin([KEEP, DROP]))
    if len(wrong):
        raise ConfigError(f"line {wrong[0] + 2}: a label is {KEEP} or {DROP}", where=file)
    try:
        uids = uid_arrays.from_hex(pa.array(table["uid"], pa.string()))
    except PoolError as error:
        raise ConfigError(error.what, where=file) from None
    return _sorted(uids, (table["label"] == KEEP).to_numpy(), file)


def _sorted(uids: UidArray, good: npt.NDArray[np.bool_], file: Path) -> Labels:
    order = uid_arrays.order(uids)
    uids, good = uids[order], good[order]
    again = np.flatnonzero(uids[1:] == uids[:-1])
    contrary = again[good[again] != good[again + 1]]
    if len(contrary):
        uid = uid_arrays.to_hex(uids[contrary[:1]])[0].as_py()
        raise ConfigError(f"the uid {uid} has two different labels", where=file)
    labels = Labels(np.delete(uids, again), np.delete(good, again))
    if not labels.good.any() or labels.good.all():
        raise ConfigError(f"needs samples of both labels, {KEEP} and {DROP}", where=file)
    return labels


def first_half(labels: Labels, seed: int) -> npt.NDArray[np.bool_]:
    """Return one half of the labels, (n,) bool, by a seeded draw; both halves have the same share of good."""
    rng = np.random.default_rng(seed)
    first = np.zeros(len(labels.uids), bool)
    for kind in (False, True):
        rows = rng.permutation(np.flatnonzero(labels.good == kind))
        first[rows[: (len(rows) + 1) // 2]] = True
    return first


def csv_lines(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return rows of uid, label and source as lines of a labels file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
