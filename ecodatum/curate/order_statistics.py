"""Order statistics of a streamed column: exact, in constant memory, mergeable over parts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Chunks = Callable[[], Iterable[npt.NDArray[Any]]]

_DIGIT = 16
_BINS = 1 << _DIGIT


def top_threshold(chunks: Chunks, share: float) -> float:
    """Return the value at index int(n·share) of all n values sorted downwards, NaN last.

    chunks: gives the column as arrays of one float dtype, anew at each call. This is the threshold
    that DataComp takes for a fraction (baselines/apply_filter.py); n counts NaN too. Where the index
    lies among the NaN, or beyond the end, every value that is not NaN passes: returns -inf.
    """
    total = sum(len(chunk) for chunk in chunks())
    value = kth_largest(chunks, int(total * share))
    return -np.inf if value is None else value


def kth_largest(chunks: Chunks, index: int) -> float | None:
    """Return the value at 0-based `index` of the values sorted downwards, or None beyond their end.

    NaN is not counted as a value. A radix selection: one histogram of 65,536 bins per 16 bits of
    the dtype, each over the values that share the digits found so far.
    """
    prefix, known = 0, 0
    while True:
        counts = np.zeros(_BINS, np.int64)
        width = 0
        for chunk in chunks():
            keys = _descending(chunk)
            width = keys.dtype.itemsize * 8
            rest = width - known
            if known:
                keys = keys[keys >> keys.dtype.type(rest) == prefix]
            digits = (keys >> keys.dtype.type(rest - _DIGIT)) & keys.dtype.type(_BINS - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=_BINS)
        cumulative = np.cumsum(counts)
        if not width or index >= cumulative[-1]:
            return None
        digit = int(np.searchsorted(cumulative, index, "right"))
        index -= int(cumulative[digit - 1]) if digit else 0
        prefix, known = (prefix << _DIGIT) | digit, known + _DIGIT
        if known == width:
            return _value(prefix, width)


def _descending(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Map floats to unsigned integers whose ascending order is the floats' descending one; drops NaN.

    IEEE floats order like sign-magnitude integers: flip all bits of the negatives and the sign of
    the others for an ascending key, and invert that. Both zeros get one key.
    """
    kept = values[~np.isnan(values)] + values.dtype.type(0)
    kind = np.uint32 if kept.dtype == np.float32 else np.uint64
    bits: npt.NDArray[np.unsignedinteger] = np.ascontiguousarray(kept).view(kind)
    sign = kind(1) << kind(kind(0).itemsize * 8 - 1)
    ascending = np.where(bits & sign, ~bits, bits | sign)
    descending: npt.NDArray[Any] = ~ascending
    return descending


def _value(key: int, width: int) -> float:
    kind, real = (np.uint32, np.float32) if width == 32 else (np.uint64, np.float64)
    sign = 1 << (width - 1)
    ascending = ~key & ((1 << width) - 1)
    bits = ascending ^ sign if ascending & sign else ~ascending & ((1 << width) - 1)
    return float(np.array([bits], kind).view(real)[0])
