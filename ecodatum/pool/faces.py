"""Faces: blurred in images, or their boxes added to a sample's json, as DataComp's resharder does."""

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ecodatum.errors import ConfigError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.shards import IMAGE_EXTENSIONS
from ecodatum.pool.tar_index import Ints
from ecodatum.pool.uids import UidArray

#: Corners (left, top, right, bottom) as fractions of the image's width and height.
Boxes = list[list[float]]


@dataclass(frozen=True)
class FaceTreatment:
    """What is done to samples with faces; `quality` is that of the WebP that a blurred image becomes."""

    blur: bool = False
    inject: bool = False
    quality: int = 100


class FaceBoxes:
    """The face boxes of a part's samples, found by uid; those without a face are not held."""

    def __init__(self, part: Part) -> None:
        uids: list[UidArray] = []
        self._boxes: list[Boxes] = []
        for batch in read_columns(part, ["uid", "face_bboxes"]):
            seen = batch.filter(pa.compute.greater(pa.compute.list_value_length(batch["face_bboxes"]), 0))
            uids.append(uid_arrays.from_hex(seen["uid"]))
            self._boxes += seen["face_bboxes"].to_pylist()
        every = np.concatenate(uids) if uids else np.empty(0, uid_arrays.UID)
        self._order = uid_arrays.order(every)
        self._index = uid_arrays.UidIndex(every[self._order])

    def rows(self, wanted: UidArray) -> Ints:
        """Return for each uid the number of its boxes' row, -1 for one without a face; (n,)."""
        if not self._boxes:
            return np.full(len(wanted), -1)
        start, stop = self._index.runs(wanted)
        return np.where(stop > start, self._order[np.minimum(start, len(self._order) - 1)], -1)

    def boxes(self, row: int) -> Boxes:
        """Return the boxes of a row."""
        return self._boxes[row]


def treat(members: Mapping[str, bytes], boxes: Boxes, treatment: FaceTreatment) -> dict[str, bytes] | None:
    """Return a sample's members with its faces blurred, its boxes in its json, or both.

    A blurred image is encoded anew, as WebP, and comes last; None when it cannot be decoded. Source:
    DataComp's resharder.py, whose blur is img2dataset's.
    """
    treated = dict(members)
    if treatment.blur:
        extension = next((e for e in IMAGE_EXTENSIONS if e in treated), None)
        blurred = _blur(treated.pop(extension), boxes, treatment.quality) if extension else None
        if blurred is None:
            return None
        treated["webp"] = blurred
    if treatment.inject:
        text = {**json.loads(treated["json"]), "face_bboxes": boxes}
        treated["json"] = json.dumps(text).encode()
    return treated


def require_blurring() -> None:
    """Raise ConfigError unless what blurs is installed."""
    try:
        _blurrer()
    except ImportError as error:
        raise ConfigError(
            f"blurring faces needs {error.name}", todo="pip install 'ecodatum[download]'"
        ) from error


_VERSION_CHECK: Final = "NO_ALBUMENTATIONS_UPDATE"


def _blurrer() -> Callable[..., Any]:
    os.environ.setdefault(_VERSION_CHECK, "1")  # albumentations would ask the network for its version
    from img2dataset.blurrer import BoundingBoxBlurrer

    blurrer: Callable[..., Any] = BoundingBoxBlurrer()
    return blurrer


def _blur(image: bytes, boxes: Boxes, quality: int) -> bytes | None:
    import cv2

    if not image or (decoded := cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)) is None:
        return None
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (the blurrer seeds both)
    try:
        blurred = _blurrer()(decoded, boxes)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    _, encoded = cv2.imencode(".webp", blurred, params=[int(cv2.IMWRITE_WEBP_QUALITY), quality])
    return encoded.tobytes()
