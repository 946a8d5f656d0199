"""Density-based pruning's share of each cluster (Abbas et al. 2024, arXiv 2401.04578, section 3)."""

import numpy as np
import numpy.typing as npt

_HALVINGS = 200


def allot(
    sizes: npt.NDArray[np.int64], complexity: npt.NDArray[np.float64], wanted: int, temperature: float
) -> npt.NDArray[np.int64]:
    """Return how many samples each cluster keeps, (k,), `wanted` in all.

    sizes: samples a cluster, (k,), at least 1. complexity: C = d_inter · d_intra, (k,).
    As near as the sizes allow to wanted · softmax(C / temperature): the paper's quadratic program, least
    squares under Σx = wanted and min(1, size - 1) <= x <= size. Its solution adds one number to all
    targets before they are clipped, which bisection finds. Fractions are rounded so that the sum holds.
    """
    scaled = complexity / temperature
    shares = np.exp(scaled - scaled.max(initial=0))
    target = wanted * shares / max(shares.sum(), 1e-300)
    least = np.minimum(1, sizes - 1)
    if least.sum() > wanted:
        least = np.zeros_like(sizes)
    low, high = -float(target.max(initial=0)) - 1, float(sizes.max(initial=0)) + 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.clip(target + middle, least, sizes).sum() < wanted:
            low = middle
        else:
            high = middle
    exact = np.clip(target + high, least, sizes)
    whole: npt.NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    nearest = np.argsort(-(exact - whole), kind="stable")
    nearest = nearest[whole[nearest] < sizes[nearest]]
    whole[nearest[: wanted - int(whole.sum())]] += 1
    return whole
