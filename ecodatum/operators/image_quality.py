"""Image quality as CleanVision scores it, with one look at each image.

Source: cleanvision 0.3.7, `issue_managers/image_property.py`; scores lie in [0, 1] and low is bad.
"""

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageFilter

from ecodatum.operators.operator import Column, ImageBatch, ImageOperator, Scores

_BLUR_SIDE: Final = 64  # blur is judged on an image of at most this side
_BLUR_RATE: Final = 0.01
_LEAST_SPREAD: Final = 0.18
_ENTROPY_FACTOR: Final = 0.1

#: Squared brightness is 0.241 R² + 0.691 G² + 0.068 B²; in thousandths it is an integer below 2^26.
_WEIGHTS: Final = (241, 691, 68)
_WHITE: Final = 1000 * 255**2
_KEY_BITS: Final = 14
_STRIP_PIXELS: Final = 1 << 15
_KEPT_PIXELS: Final = 1 << 20

_LEVELS = np.arange(256, dtype=np.float64)


class Quality(NamedTuple):
    """The scores of one image, in the order of the operator's columns."""

    blurry: float
    dark: float
    light: float
    low_information: float
    odd_aspect_ratio: float
    grayscale: int
    size: float


class ImageQuality(ImageOperator):
    """CleanVision's scores of single images; for its odd size see `odd_size_scores`."""

    name = "image_quality"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """CleanVision's dark and light of images deeper than 8 bits leave [0, 1]; here they are clipped."""
        return (
            Column("blurry", pa.float64(), "sharpness of edges, plus spread of the grey histogram", 0, 1),
            Column("dark", pa.float64(), "99th percentile of brightness", 0, 1),
            Column("light", pa.float64(), "1 - 5th percentile of brightness", 0, 1),
            Column("low_information", pa.float64(), "a tenth of the histogram's entropy in bits", 0, 1),
            Column("odd_aspect_ratio", pa.float64(), "shorter side / longer side", 0, 1),
            Column("grayscale", pa.int8(), "0 if the image is stored as grey, else 1", 0, 1),
            Column("size", pa.float64(), "square root of the area in pixels", 1),
        )

    def view(self, image: Image.Image) -> Quality:
        """Score one image in its own mode; raises ValueError or OSError where PIL can't work in it."""
        low, high = _brightness_percentiles(image)
        width, height = image.size
        return Quality(
            blurry=_sharpness(image),
            dark=high,
            light=1 - low,
            low_information=min(1.0, _ENTROPY_FACTOR * image.entropy()),
            odd_aspect_ratio=min(width / height, height / width),
            grayscale=int(image.mode != "L"),
            size=math.sqrt(width) * math.sqrt(height),
        )

    def score(self, batch: ImageBatch) -> Scores:
        """Gather what the views found."""
        return self.scores(dict(zip(Quality._fields, zip(*batch.views, strict=True), strict=True)))


def odd_size_scores(
    sizes: npt.NDArray[np.float64], quartiles: tuple[float, float], iqr_factor: float = 3.0
) -> npt.NDArray[np.float64]:
    """Return CleanVision's odd-size scores for sizes, (n,) in pixels, of a pool with these quartiles.

    The score depends on the pool, so it takes two passes: the quartiles of the column `size` over all
    parts (`np.percentile(…, [25, 75])`), then this, part by part. CleanVision calls an image odd
    when its score is below 0.5, or, if both quartiles are the same, below 1.
    """
    lower, upper = quartiles
    reach = iqr_factor * (upper - lower)
    least, most = lower - reach, upper + reach
    middle = (least + most) / 2
    distance = np.abs(sizes - middle) / ((most - least) or middle)
    return 1 - np.clip(distance, 0, 1)


def _sharpness(image: Image.Image) -> float:
    """The blurry score: edges of a small grey copy, plus a term for a histogram with few peaks."""
    ratio = max(image.size) / _BLUR_SIDE
    if ratio > 1:
        image = image.resize((max(int(image.width // ratio), 1), max(int(image.height // ratio), 1)))
    grey = image.convert("L")
    edges = np.array(grey.filter(ImageFilter.FIND_EDGES).histogram(), np.float64)
    count = edges.sum()
    variance = (edges @ _LEVELS**2 - (edges @ _LEVELS) ** 2 / count) / count
    blur = 1 - math.exp(-_BLUR_RATE * math.sqrt(max(variance, 0.0)))
    spread = 1 - math.exp(-_BLUR_RATE * float(np.std(grey.histogram())))
    return min(1.0, blur + (spread if spread > _LEAST_SPREAD else 0.0))


def _brightness_percentiles(image: Image.Image) -> tuple[float, float]:
    """Return the 5th and the 99th percentile of the pixels' brightness, each in [0, 1]."""
    bands = image.getbands()
    if len(bands) >= 3:
        return _colour_percentiles(image)
    if len(bands) == 2:  # grey with alpha, on which CleanVision fails: take the grey
        image = image.getchannel(0)
    if image.mode in ("L", "P"):
        below = np.cumsum(image.histogram())
        low, high = (
            _percentile(lambda rank: float(np.searchsorted(below, rank, "right")), int(below[-1]), share)
            / 255
            for share in (0.05, 0.99)
        )
        return low, high
    low, high = np.clip(np.percentile(np.asarray(image) / 255.0, [5, 99]), 0, 1)
    return float(low), float(high)


class _Scratch(threading.local):
    """A thread's working memory, used again for each image: to get it afresh costs a tenth of the work."""

    def __init__(self) -> None:
        self._squares = np.empty(_KEPT_PIXELS, np.uint32)
        self._keys = np.empty(_KEPT_PIXELS, np.uint16)

    def arrays(self, pixels: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
        if pixels > _KEPT_PIXELS:
            return np.empty(pixels, np.uint32), np.empty(pixels, np.uint16)
        return self._squares[:pixels], self._keys[:pixels]


_SCRATCH = _Scratch()


def _colour_percentiles(image: Image.Image) -> tuple[float, float]:
    """The same of the first three bands: brightness is the root of integers, which order it exactly.

    A histogram of their high bits finds the few pixels around a percentile; only those are sorted.
    The image is taken in strips that stay in the cache: fresh memory for all of it would cost more
    than the work.
    """
    width, height = image.size
    squares, keys = _SCRATCH.arrays(width * height)
    counts = np.zeros((_WHITE >> _KEY_BITS) + 1, np.int64)
    strip = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, strip):
        bottom = min(height, top + strip)
        pixels = np.asarray(image.crop((0, top, width, bottom))).reshape((bottom - top) * width, -1)
        part = slice(top * width, bottom * width)
        total = squares[part]
        np.multiply(pixels[:, 0], pixels[:, 0], out=total, dtype=np.uint32)
        total *= _WEIGHTS[0]
        for band in (1, 2):
            term = np.multiply(pixels[:, band], pixels[:, band], dtype=np.uint32)
            term *= _WEIGHTS[band]
            total += term
        np.right_shift(total, _KEY_BITS, out=keys[part], casting="unsafe")
        counts += np.bincount(keys[part], minlength=len(counts))
    below = np.cumsum(counts)

    @cache
    def sorted_bin(key: int) -> npt.NDArray[np.uint32]:
        return np.sort(squares[keys == key])

    def brightness(rank: int) -> float:
        key = int(np.searchsorted(below, rank, "right"))
        within = rank - (int(below[key - 1]) if key else 0)
        return math.sqrt(int(sorted_bin(key)[within]) / _WHITE)

    return _percentile(brightness, len(squares), 0.05), _percentile(brightness, len(squares), 0.99)


def _percentile(value_at: Callable[[int], float], count: int, share: float) -> float:
    """Interpolate linearly between the two nearest ranks, as `np.percentile` does."""
    place = share * (count - 1)
    rank = int(place)
    low = value_at(rank)
    return low if place == rank else low + (value_at(rank + 1) - low) * (place - rank)
