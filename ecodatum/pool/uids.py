"""Sample ids: 128 bits, in memory a structured array, never a Python int or string in a loop."""

import binascii
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecodatum.errors import PoolError

#: High and low 64 bits, as DataComp's subsets hold them (baselines/utils.py).
UID: Final = np.dtype("u8,u8")

UidArray = npt.NDArray[np.void]

#: How many of a sorted array's high words are held in memory.
_COARSE: Final = 1 << 16


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
    return from_digits(np.frombuffer(binary.buffers()[2], np.uint8)[offsets[0] : offsets[-1]])


def from_digits(digits: npt.NDArray[np.uint8]) -> UidArray:
    """Return the uids of hex digits, 32 a uid, as ASCII; raises PoolError for what is no digit."""
    try:
        packed = binascii.unhexlify(digits.tobytes())
    except binascii.Error:
        raise PoolError("a uid is not 32 hex digits") from None
    return np.frombuffer(packed, ">u8").astype("u8").view(UID)


def to_hex(uids: UidArray) -> pa.Array:
    """Return the 32 lower-case hex digits of each uid, as an arrow string array of the same length."""
    offsets = pa.py_buffer(np.arange(len(uids) + 1, dtype=np.int64) * 32)
    strings = pa.Array.from_buffers(
        pa.large_string(), len(uids), [None, offsets, pa.py_buffer(hex_digits(uids))]
    )
    return strings.cast(pa.string())


def hex_digits(uids: UidArray) -> npt.NDArray[np.uint8]:
    """Return the 32 lower-case hex digits of each uid, (n, 32) uint8."""
    raw = _words(uids).astype(">u8").tobytes().hex().encode()
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


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
    """Finds uids in a sorted array of them, which may be a memory-mapped file of any length.

    Only every k-th of the high words is held in memory; the rest is bisected where it lies.
    """

    def __init__(self, sorted_uids: UidArray) -> None:
        self._high, self._low = sorted_uids["f0"], sorted_uids["f1"]
        self._stride = -(-len(sorted_uids) // _COARSE) or 1
        self._coarse = np.ascontiguousarray(self._high[:: self._stride])

    def runs(self, wanted: UidArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each wanted uid the run [start, stop) of its occurrences; two (k,) int64."""
        words = _words(wanted)
        high, low = words[:, 0], words[:, 1]
        start = self._bisect(high, low, past_equals=False)
        stop = start.copy()
        inside = np.flatnonzero(start < len(self._high))
        at = start[inside]
        found = inside[(self._high[at] == high[inside]) & (self._low[at] == low[inside])]
        stop[found] = self._bisect(high[found], low[found], past_equals=True)
        return start, stop

    def _bisect(
        self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], *, past_equals: bool
    ) -> npt.NDArray[np.int64]:
        """Return the first position whose uid is not less, or is greater, than each wanted one."""
        first = np.maximum(np.searchsorted(self._coarse, high, "left") - 1, 0) * self._stride
        last = np.minimum(np.searchsorted(self._coarse, high, "right") * self._stride, len(self._high))
        while len(open_ := np.flatnonzero(first < last)):
            middle = (first[open_] + last[open_]) // 2
            at_high, at_low = self._high[middle], self._low[middle]
            below = at_low <= low[open_] if past_equals else at_low < low[open_]
            right = (at_high < high[open_]) | ((at_high == high[open_]) & below)
            first[open_[right]] = middle[right] + 1
            last[open_[~right]] = middle[~right]
        return first


def _words(uids: UidArray) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(uids).view(np.uint64).reshape(-1, 2)
