"""Reads a part's images: each is decoded once, in threads that work ahead, for all operators at once."""

import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from ecodatum.operators.operator import ImageOperator
from ecodatum.pool.pool import Shard
from ecodatum.pool.resharding import sample_uid
from ecodatum.pool.shards import Sample, read_shard

#: What a pool's bytes may be, whatever their extension says; some of PIL's other readers start programs.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: Samples that a thread takes at once: small images cost less than handing them over.
_TOGETHER: Final = 16


@dataclass(frozen=True, slots=True)
class Look:
    """A sample, and for each operator what it saw of the image, or why it could not."""

    uid: str
    shard: str
    key: str
    caption: str | None
    views: list[Any]
    faults: list[str | None]


def look_at_images(
    shards: Sequence[Shard], operators: Sequence[ImageOperator], batch_size: int
) -> Iterator[list[Look]]:
    """Yield the samples of the shards in order, in batches; at most two batches are held at a time.

    Raises PoolError for a damaged shard or a sample without a uid.
    """
    looks = _look_ahead(shards, operators, batch_size)
    while batch := list(islice(looks, batch_size)):
        yield batch


def _look_ahead(shards: Sequence[Shard], operators: Sequence[ImageOperator], ahead: int) -> Iterator[Look]:
    waiting: deque[Future[list[Look]]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        warnings.filterwarnings("ignore", module="PIL")  # of oddities in an image: it decodes or it doesn't
        # A few hundred bytes may claim 90 million pixels and more, and would get gigabytes for them.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for shard in shards:
            samples = read_shard(shard.path)
            while few := list(islice(samples, _TOGETHER)):
                waiting.append(threads.submit(_look_at_few, few, shard.path, operators))
                if len(waiting) * _TOGETHER > ahead:
                    yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _look_at_few(samples: list[Sample], shard: Path, operators: Sequence[ImageOperator]) -> list[Look]:
    return [_look(sample, shard, operators) for sample in samples]


def _look(sample: Sample, shard: Path, operators: Sequence[ImageOperator]) -> Look:
    """Decode an image and show it to every operator."""
    views: list[Any] = [None] * len(operators)
    faults: list[str | None] = [None] * len(operators)
    image = decode(sample.image)
    for position, operator in enumerate(operators):
        if isinstance(image, str):
            faults[position] = image
            continue
        try:
            views[position] = operator.view(image)
        except (ValueError, OSError) as error:
            faults[position] = f"cannot be scored: {error}"
    return Look(sample_uid(sample, shard), shard.name, sample.key, _caption(sample), views, faults)


def decode(data: bytes | None) -> Image.Image | str:
    """Return an encoded image, decoded in its own mode (of an animation the first frame), or why not."""
    if data is None:
        return "the sample has no image"
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
    except UnidentifiedImageError:  # its message holds an address, and differs from run to run
        return f"cannot decode: none of {', '.join(_FORMATS)}"
    except Exception as error:  # PIL's readers raise almost anything at damaged bytes
        return f"cannot decode: {str(error) or type(error).__name__}"
    return image


def _caption(sample: Sample) -> str | None:
    """Return what open_clip trains on: the txt member."""
    try:
        return sample.members["txt"].decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return None
