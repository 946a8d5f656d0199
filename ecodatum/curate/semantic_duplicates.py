"""Semantic duplicates: embeddings of a cluster that nearly point the same way (SemDeDup, arXiv 2303.09540).

The embeddings of a pool do not fit into memory, and a cluster's are scattered over all parts. So one pass
over the parts sorts them into files of a few clusters each, which are then read one after another. On
disk that takes as much as the embeddings do.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ecodatum.pool.embeddings import open_embeddings
from ecodatum.pool.pool import Part

Mask = npt.NDArray[np.bool_]

#: Rows of a file; but no more files than may be open at once.
_FILE_ROWS: Final = 1 << 18
_FILES: Final = 256

_READ_ROWS: Final = 8192
_SIMILARITIES: Final = 1 << 24  # held at once


def worse_duplicates(
    parts: Sequence[Part],
    name: str,
    rows: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.integer],
    above: float,
    scratch: Path,
) -> tuple[Mask, Mask]:
    """Return which rows have a better one in their cluster with a cosine above `above`, and the best ones.

    rows: (k,), counted over all parts, sorted by cluster and within a cluster from the best on;
    clusters: (k,). name: the array of the embeddings. scratch: a folder for temporary files.
    Returns two masks (k,): removed, and those that stay and have a worse one that they remove. As in
    SemDeDup, one that is removed still removes those that are worse than it. An embedding that is
    not a number or zero has no duplicates. Raises PoolError for missing or damaged embeddings.
    """
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    per_file = max(_FILE_ROWS, len(rows) // _FILES)
    files = np.repeat(starts // per_file, np.diff(starts, append=len(rows)))
    worse, best = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    width, dtype = _spill(parts, name, rows, files, scratch)
    for number in np.unique(files):
        mine = np.flatnonzero(files == number)
        path = scratch / f"{number}.embeddings"
        embeddings = np.fromfile(path, dtype).reshape(-1, width)
        path.unlink()
        place = np.empty(len(mine), np.int64)  # in the file, whose rows stand in the pool's order
        place[np.argsort(rows[mine])] = np.arange(len(mine))
        for members in np.split(np.arange(len(mine)), np.flatnonzero(np.diff(clusters[mine])) + 1):
            found = _in_cluster(_unit(embeddings[place[members]].astype(np.float32)), above)
            worse[mine[members]], best[mine[members]] = found
    return worse, best


def _spill(
    parts: Sequence[Part],
    name: str,
    rows: npt.NDArray[np.int64],
    files: npt.NDArray[np.int64],
    scratch: Path,
) -> tuple[int, np.dtype[Any]]:
    """Write each row's embedding to its file, in the pool's order; return their width and type."""
    total = sum(part.rows for part in parts)
    file_of = np.full(total, -1, np.int16)
    file_of[rows] = files
    width, dtype, done = 0, np.dtype(np.float16), 0
    with ExitStack() as stack:
        handles = {
            int(number): stack.enter_context((scratch / f"{number}.embeddings").open("wb"))
            for number in np.unique(files)
        }
        for part in parts:
            with open_embeddings(part, [name]) as arrays:
                for start in range(0, part.rows, _READ_ROWS):
                    values = arrays.read(min(_READ_ROWS, part.rows - start))[name]
                    width, dtype = values.shape[1], values.dtype if not done else dtype
                    wanted = file_of[done : done + len(values)]
                    done += len(values)
                    for number in np.unique(wanted[wanted >= 0]):
                        handles[int(number)].write(values[wanted == number].astype(dtype).tobytes())
    return width, dtype


def _in_cluster(vectors: npt.NDArray[np.float32], above: float) -> tuple[Mask, Mask]:
    """Compare a cluster's vectors, (m, width) of length 1 from the best on, each with those before it."""
    count = len(vectors)
    worse, leads = np.zeros(count, bool), np.zeros(count, bool)
    step = max(1, _SIMILARITIES // count)
    for start in range(0, count, step):
        stop = min(start + step, count)
        near = vectors[:stop] @ vectors[start:stop].T > above
        near[start:stop] = np.triu(near[start:stop], 1)
        worse[start:stop] = near.any(axis=0)
        leads[:stop] |= near.any(axis=1)
    return worse, leads & ~worse


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale vectors, (m, width), to length 1; one without a direction becomes NaN, which is near nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
