"""Subsets: the sorted `u8,u8` npy file that DataComp defines."""

import io
from pathlib import Path

import numpy as np

from ecodatum.errors import PoolError
from ecodatum.files import replacing
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.location import is_remote
from ecodatum.pool.uids import UID, UidArray


def write_subset(path: Path, uids: UidArray) -> None:
    """Sort the uids and write them to `path`; a uid that occurs twice is kept twice."""
    ordered = uids[uid_arrays.order(uids)]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, ordered)


def read_subset(path: Path) -> UidArray:
    """Return the uids of a subset file; (n,) of dtype `u8,u8`, sorted.

    They are memory-mapped where the file is on this machine. Raises PoolError when the file is missing,
    is not an npy of that type and shape, or is not sorted.
    """
    try:
        if is_remote(path):
            subset: UidArray = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        else:
            subset = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise PoolError("no such subset", where=path, todo="make one with `ecodatum curate`") from None
    except (ValueError, OSError, EOFError) as error:
        raise PoolError(f"cannot be read as a subset: {error}", where=path) from error
    if subset.dtype != UID or subset.ndim != 1:
        raise PoolError(f"holds {subset.dtype} of shape {subset.shape}, not (n,) of u8,u8", where=path)
    if not uid_arrays.in_order(subset):
        raise PoolError(
            "is not sorted by uid", where=path, todo="sort it: the resharder searches by bisection"
        )
    return subset
