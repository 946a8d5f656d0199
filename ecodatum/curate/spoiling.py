"""Spoils good pairs in known ways: exchanges captions, degrades images."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from ecodatum.errors import ConfigError

EXCHANGED: Final = "exchanged"

_STRETCH = 5


def exchange(captions: Sequence[str], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return for each caption the position of another one, (n,); no pair keeps its caption or one like it.

    Raises ConfigError where one caption makes up more than half of them.
    """
    mixed = rng.permutation(len(captions))
    order = mixed[np.argsort(np.array(captions, object)[mixed].astype(str), kind="stable")]
    _, counts = np.unique(np.array(captions, str), return_counts=True)
    shift = int(counts.max(initial=0))
    if 2 * shift > len(captions):
        raise ConfigError(
            f"cannot exchange {len(captions)} captions of which {shift} are the same", todo="raise --count"
        )
    taken = np.empty(len(captions), np.intp)
    taken[order] = np.roll(order, shift)
    return taken


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 25))


def _dark(image: Image.Image) -> Image.Image:
    return image.point(lambda value: value * 0.12)


def _washed_out(image: Image.Image) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, "white"), 0.88)


def _low_information(image: Image.Image) -> Image.Image:
    """Put a thumbnail on an empty page."""
    page = Image.new("RGB", image.size, image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    page.paste(image.resize((max(1, image.width // 10), max(1, image.height // 10))), (0, 0))
    return page


def _stretched(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    size = (longer, max(1, longer // _STRETCH))
    return image.resize(size if image.width >= image.height else size[::-1])


#: What can be done to an image, by the name that the labels file gives it.
FAULTS: Final[Mapping[str, Callable[[Image.Image], Image.Image]]] = {
    "blurred": _blurred,
    "dark": _dark,
    "washed_out": _washed_out,
    "low_information": _low_information,
    "stretched": _stretched,
}


def degrade(image: Image.Image, fault: str) -> tuple[bytes, tuple[int, int]]:
    """Return an image with the fault as JPEG, and its size in pixels."""
    spoiled = FAULTS[fault](image.convert("RGB"))
    data = io.BytesIO()
    spoiled.save(data, "JPEG", quality=92)
    return data.getvalue(), spoiled.size
