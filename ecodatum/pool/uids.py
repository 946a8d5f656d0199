"""Sample ids: 128 bits, in memory a structured array, never a Python int or string in a loop."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecodatum.errors import PoolError

#: High and low 64 bits, as DataComp's subsets hold them (baselines/utils.py).
UID: Final = np.dtype("u8,u8")

UidArray = npt.NDArray[np.void]

_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_NIBBLE[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)
_NIBBLE[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)


def from_hex(column: "pa.Array | pa.ChunkedArray") -> UidArray:
    """Return the uids of a string column.

    column: strings of 32 hex digits; (n,).
    Returns (n,) of dtype `UID`. Raises PoolError for a null, another length or another digit.
    """
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    binary = flat.cast(pa.large_binary())
    n = len(binary)
    if n == 0:
        return np.empty(0, UID)
    offsets = np.frombuffer(binary.buffers()[1], np.int64)[binary.offset : binary.offset + n + 1]
    if binary.null_count or np.any(np.diff(offsets) != 32):
        raise PoolError("a uid is not 32 hex digits")
    digits = np.frombuffer(binary.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    nibbles = _NIBBLE[digits]
    if np.any(nibbles == 255):
        raise PoolError("a uid is not 32 hex digits")
    packed = (nibbles[0::2] << 4) | nibbles[1::2]
    return np.ascontiguousarray(packed).view(">u8").astype("u8").view(UID)


def to_hex(uids: UidArray) -> pa.Array:
    """Return the 32 lower-case hex digits of each uid, as an arrow string array of the same length."""
    raw = _words(uids).astype(">u8").tobytes().hex().encode()
    offsets = pa.py_buffer(np.arange(len(uids) + 1, dtype=np.int64) * 32)
    strings = pa.Array.from_buffers(pa.large_string(), len(uids), [None, offsets, pa.py_buffer(raw)])
    return strings.cast(pa.string())


def from_words(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> UidArray:
    """Join the high and the low 64 bits, each (n,) uint64, to (n,) uids."""
    uids = np.empty(len(high), UID)
    uids["f0"], uids["f1"] = high, low
    return uids


def order(uids: UidArray) -> npt.NDArray[np.int64]:
    """Return the stable order that sorts the uids; (n,) int64."""
    return np.lexsort((uids["f1"], uids["f0"]))


def in_order(uids: UidArray) -> bool:
    """Tell whether the uids are sorted (equal neighbours allowed)."""
    high, low = uids["f0"], uids["f1"]
    rising = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] >= low[:-1]))
    return bool(np.all(rising))


class UidIndex:
    """Finds uids in a sorted array of them by bisection; the keys are prepared once."""

    def __init__(self, sorted_uids: UidArray) -> None:
        self._keys = _comparable(sorted_uids)

    def runs(self, wanted: UidArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each wanted uid the run [start, stop) of its occurrences; two (k,) int64."""
        queries = _comparable(wanted)
        return np.searchsorted(self._keys, queries, "left"), np.searchsorted(self._keys, queries, "right")


def _comparable(uids: UidArray) -> npt.NDArray[Any]:
    """View uids as fixed-width big-endian bytes, which numpy compares at C speed and in uid order.

    An ``S16`` would drop trailing zero bytes, so a constant byte is appended.
    """
    padded = np.ones((len(uids), 17), np.uint8)
    padded[:, :16] = _words(uids).astype(">u8").view(np.uint8).reshape(-1, 16)
    return padded.view("S17").ravel()


def _words(uids: UidArray) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(uids).view(np.uint64).reshape(-1, 2)
