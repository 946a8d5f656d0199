"""Image quality as CleanVision scores it, with one look at each image.

Source: cleanvision 0.3.7, `issue_managers/image_property.py`; scores lie in [0, 1] and low is bad.
"""

import math
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

#: Tables of squares whose mean, in the weights of PIL's conversion to grey, is the squared brightness in
#: 217 levels. The ratio of its weight to ours is the least for green: scaled by it, no table leaves a byte.
_GREY: Final = (299, 587, 114)
_SCALE: Final = _GREY[1] / _WEIGHTS[1] / 255
_COARSE: Final = [
    round(_SCALE * weight / grey * level**2)
    for weight, grey in zip(_WEIGHTS, _GREY, strict=True)
    for level in range(256)
]
#: A level is off by at most 1/2 for the tables and 1 for the conversion, and so is that of a percentile.
_SLACK: Final = 3
_FEW: Final = 1 / 8

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

        def level(rank: int, last: int) -> tuple[float, float]:
            first, second = np.searchsorted(below, (rank, last), "right") / 255
            return float(first), float(second)

        return _percentile(level, int(below[-1]), 0.05), _percentile(level, int(below[-1]), 0.99)
    low, high = np.clip(np.percentile(np.asarray(image) / 255.0, [5, 99]), 0, 1)
    return float(low), float(high)


def _colour_percentiles(image: Image.Image) -> tuple[float, float]:
    """The same of the first three bands: brightness is the root of integers, which order it exactly.

    PIL turns the pixels into coarse brightnesses, whose histogram finds the few pixels around a
    percentile; only those are looked at exactly.
    """
    bands = image.split()[:3]
    colours = image if image.mode == "RGB" else Image.merge("RGB", bands)
    coarse = colours.point(_COARSE).convert("L")
    below = np.cumsum(coarse.histogram())
    levels = np.asarray(coarse).ravel()
    pixels = [np.asarray(band).ravel() for band in bands]

    def squares(chosen: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.uint32]:
        total = np.zeros(len(levels[chosen]), np.uint32)
        for weight, band in zip(_WEIGHTS, pixels, strict=True):
            own = band[chosen].astype(np.uint32)
            own *= own
            own *= weight
            total += own
        return total

    @cache
    def of_all() -> npt.NDArray[np.uint32]:
        return squares(slice(None))

    def brightness(rank: int, last: int) -> tuple[float, float]:
        """Return the brightness at two neighbouring ranks."""
        lowest, highest = (int(level) for level in np.searchsorted(below, (rank, last), "right"))
        lowest, highest = max(0, lowest - _SLACK), min(len(below) - 1, highest + _SLACK)
        start = int(below[lowest - 1]) if lowest else 0
        if below[highest] - start > _FEW * len(levels):  # as with a white ground
            start, near = 0, of_all()
        else:
            near = squares(np.flatnonzero(levels - np.uint8(lowest) <= highest - lowest))
        near.partition((rank - start, last - start))
        return math.sqrt(near[rank - start] / _WHITE), math.sqrt(near[last - start] / _WHITE)

    return _percentile(brightness, len(levels), 0.05), _percentile(brightness, len(levels), 0.99)


def _percentile(values_at: Callable[[int, int], tuple[float, float]], count: int, share: float) -> float:
    """Interpolate linearly between the two nearest ranks, as `np.percentile` does."""
    place = share * (count - 1)
    rank = int(place)
    low, high = values_at(rank, min(rank + 1, count - 1))
    return low + (high - low) * (place - rank)
