"""Small images of a few samples of a shard, as data URIs."""

import base64
import io
import warnings
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from PIL import Image

from ecodatum.operators.images import decode
from ecodatum.pool.pool import Shard
from ecodatum.pool.resharding import sample_uid
from ecodatum.pool.shards import read_shard

#: The longer side, for a square of half as many CSS pixels on a screen of high density; WebP's quality.
_SIDE: Final = 160
_QUALITY: Final = 72


@dataclass(frozen=True)
class Thumbnail:
    """A data URI, and the pixels of the small image and of the pool's."""

    uri: str
    width: int
    height: int
    original: tuple[int, int]


def thumbnails(shard: Shard, uids: Set[str]) -> dict[str, Thumbnail | str]:
    """Return by uid the image of each sample that the shard has, or why it cannot be shown.

    The shard is read until all are found. Raises PoolError when it is damaged.
    """
    found: dict[str, Thumbnail | str] = {}
    for sample in read_shard(shard.path):
        uid = sample_uid(sample, shard.path)
        if uid in uids and uid not in found:
            found[uid] = thumbnail(sample.image)
            if len(found) == len(uids):
                break
    return found


def thumbnail(data: bytes | None) -> Thumbnail | str:
    """Return an encoded image small and as a data URI, or why it cannot be shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = decode(data)
    if isinstance(image, str):
        return image
    original = image.size
    image = image.convert("RGBA" if _transparent(image) else "RGB")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=6)
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Thumbnail(uri, *image.size, original)


def _transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info
