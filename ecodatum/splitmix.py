"""Splitmix64: an integer's 64 bits spread so that nothing of its order is left, the same everywhere."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: 2^64 / golden ratio, an odd number: multiples of it spread out.
STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit number for each integer, (n,), no two the same.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    spread = values.astype(np.uint64) * STEP
    spread = (spread ^ (spread >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    spread = (spread ^ (spread >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return spread ^ (spread >> np.uint64(31))
