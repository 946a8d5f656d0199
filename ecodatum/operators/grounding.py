"""Grounding: where in the image is what the caption names, by (MM-)Grounding-DINO."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from ecodatum.operators.assets import find_asset, folder_files
from ecodatum.operators.clip_models import cpu_threads
from ecodatum.operators.operator import Column, ImageBatch, ImageOperator, Parameters, Scores, fault_where
from ecodatum.operators.transformers_models import Precision, load_model, load_part, require_transformers

#: A box is kept if its confidence is above this (EcoDatum, section on GroundingDINO: "from 0.1 on").
KEPT: Final = 0.1

#: Boxes are also counted above each of these, in hundredths, so that a labelling function may choose.
LEVELS: Final = (10, 20, 30, 40, 50)

#: Images of one size that go through the model together.
_TOGETHER: Final = 8

#: The longer side of the models' own input, in pixels; much larger images are reduced before they wait.
_LARGEST: Final = 1333

#: At most this many times as long as wide: resized to the model's input, little is left of such an image.
_NARROWEST: Final = 64

Floats = npt.NDArray[np.float32]


class GroundingParameters(Parameters):
    """model: the asset `grounding_dino_large`, `_base` or `_tiny`, or a folder with such a model."""

    model: str = "grounding_dino_large"
    precision: Precision = "fp32"


class Grounding(ImageOperator):
    """How many boxes a caption finds in its image, how sure, how large, and where.

    The whole caption is the prompt, as in EcoDatum's released results (whose labels run across a
    caption's words) and in Huang et al. 2024, arXiv 2401.12225: Grounding DINO itself finds what in it
    names a thing, and no parser of noun phrases stands before it. The caption is lower-cased and ends
    in a full stop, as the model was trained. A box's confidence is that of its best token.
    """

    name = "grounding"
    version = 1
    runs_on = "gpu"
    parameters_type = GroundingParameters

    def __init__(self, parameters: GroundingParameters) -> None:
        super().__init__(parameters)
        require_transformers(self.name)
        self._precision = parameters.precision
        self._folder = find_asset(parameters.model, what="grounding model")
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of no box, a mean, an area and an aspect are 0."""
        box = pa.list_(pa.float32(), 4)
        by_level: list[Column] = []
        for level in LEVELS:
            above = f"with confidence above {level / 100}"
            by_level += [
                Column(f"count_{level}", pa.int32(), f"boxes {above}", 0),
                Column(f"area_{level}", pa.float32(), f"share of the image that boxes {above} cover", 0, 1),
                Column(f"aspect_{level}", pa.float32(), f"mean shorter / longer side of boxes {above}", 0, 1),
            ]
        return (
            Column("max_confidence", pa.float32(), "confidence of the best box", 0, 1),
            Column("mean_confidence", pa.float32(), f"mean confidence of the boxes above {KEPT}", 0, 1),
            *by_level,
            Column("confidences", pa.list_(pa.float32()), f"of the boxes above {KEPT}, in the model's order"),
            Column("boxes", pa.list_(box), "left, top, right, bottom, as shares of width and height"),
        )

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The model's files."""
        return {"model": folder_files(self._folder)}

    def prepare(self, device: str) -> None:
        """Load the model onto the device."""
        self._device = device
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        model = load_model(
            "AutoModelForZeroShotObjectDetection",
            self._folder,
            device=self._device,
            precision=self._precision,
        )
        # The PIL backend resizes as Grounding DINO's own transforms do.
        pictures = load_part("AutoImageProcessor", self._folder, backend="pil")
        return model, pictures, load_part("AutoTokenizer", self._folder)

    def view(self, image: Image.Image) -> Image.Image:
        """Keep the image in RGB; only one that is far larger than the model's input is reduced first.

        Raises ValueError for an image of which resizing would leave a line.
        """
        if max(image.size) > _NARROWEST * min(image.size):
            raise ValueError(f"its sides, {image.width} x {image.height}, are too unequal")
        picture = image.convert("RGB")
        if max(picture.size) > 2 * _LARGEST:
            picture = picture.reduce(max(picture.size) // _LARGEST)
        return picture

    def score(self, batch: ImageBatch) -> Scores:
        """Detect; images of one size go together, so that a score doesn't depend on the others' padding."""
        import torch

        found = [_NOTHING] * len(batch.views)
        missing = np.array([caption is None for caption in batch.captions], bool)
        threads = 1 if self._device == "cpu" else None
        with cpu_threads(threads), torch.inference_mode():
            for rows in _of_one_size(batch.views, missing):
                images = [batch.views[row] for row in rows]
                prompts = [prompt(batch.captions[row] or "") for row in rows]
                for row, detected in zip(rows, self._detect(images, prompts), strict=True):
                    found[row] = detected
        return self.scores(summaries(found, missing), fault_where(missing, "no caption"))

    def _detect(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Iterator["Detections"]:
        """Yield the detections of images of one size."""
        model, pictures, tokenizer = self._loaded
        pixels = pictures(images=list(images), return_tensors="pt").to(self._device)
        length = model.config.max_text_len
        tokens = tokenizer(
            list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(self._device)
        pixels["pixel_values"] = pixels["pixel_values"].to(model.dtype)
        output = model(**pixels, **tokens)
        confidences = output.logits.float().sigmoid().amax(-1).cpu().numpy()
        boxes = output.pred_boxes.float().cpu().numpy()
        width, height = images[0].size
        for confidence, box in zip(confidences, boxes, strict=True):
            kept = confidence > np.float32(KEPT)
            yield Detections(confidence[kept], _corners(box[kept]), width / height)


def prompt(caption: str) -> str:
    """Return a caption in the form that Grounding DINO was trained on."""
    text = caption.lower().strip()
    return text if text.endswith(".") else text + "."


@dataclass(frozen=True)
class Detections:
    """An image's boxes: confidences (k,), corners (k, 4) as shares, and its width / height."""

    confidences: Floats
    boxes: Floats
    aspect: float


_NOTHING: Final = Detections(np.empty(0, np.float32), np.empty((0, 4), np.float32), 1.0)


def _of_one_size(images: Sequence[Image.Image], missing: npt.NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield the rows of up to `_TOGETHER` images of one size, leaving out the missing."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(images):
        if not missing[row]:
            sizes.setdefault(image.size, []).append(row)
    for rows in sizes.values():
        for start in range(0, len(rows), _TOGETHER):
            yield rows[start : start + _TOGETHER]


def _corners(boxes: Floats) -> Floats:
    """Turn centres and sizes, (k, 4), into corners, (k, 4)."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def summaries(found: Sequence[Detections], missing: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Return the score columns of the samples."""
    confidences = np.concatenate([one.confidences for one in found])
    boxes = np.concatenate([one.boxes for one in found])
    offsets = np.concatenate(([0], np.cumsum([len(one.confidences) for one in found])))
    sample = np.repeat(np.arange(len(found)), np.diff(offsets))
    shapes = _shapes(boxes, np.array([one.aspect for one in found])[sample])
    columns: dict[str, Any] = {
        "max_confidence": _maximum(confidences, sample, len(found)),
        "mean_confidence": _mean(confidences, sample, len(found)),
    }
    for level in LEVELS:
        above = confidences > np.float32(level / 100)
        columns[f"count_{level}"] = np.bincount(sample[above], minlength=len(found)).astype(np.int32)
        columns[f"aspect_{level}"] = _mean(shapes[above], sample[above], len(found))
        columns[f"area_{level}"] = np.array(
            [covered(one.boxes[one.confidences > np.float32(level / 100)]) for one in found], np.float32
        )
    arrays = {name: pa.array(values, mask=missing) for name, values in columns.items()}
    starts = pa.array(offsets.astype(np.int32), mask=np.append(missing, False))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4)
    arrays["confidences"] = pa.ListArray.from_arrays(starts, pa.array(confidences))
    arrays["boxes"] = pa.ListArray.from_arrays(starts, flat)
    return arrays


def _shapes(boxes: Floats, aspects: npt.NDArray[np.float64]) -> Floats:
    """Return each box's shorter / longer side in pixels, (k,); 0 for one without an area."""
    width = (boxes[:, 2] - boxes[:, 0]) * aspects
    height = boxes[:, 3] - boxes[:, 1]
    short, long = np.minimum(width, height), np.maximum(width, height)
    shapes: Floats = np.divide(short, long, out=np.zeros(len(boxes)), where=short > 0).astype(np.float32)
    return shapes


def _mean(values: Floats, sample: npt.NDArray[np.intp], samples: int) -> Floats:
    count = np.bincount(sample, minlength=samples)
    total = np.bincount(sample, values, minlength=samples)
    mean: Floats = (total / np.maximum(count, 1)).astype(np.float32)
    return mean


def _maximum(values: Floats, sample: npt.NDArray[np.intp], samples: int) -> Floats:
    best = np.zeros(samples, np.float32)
    np.maximum.at(best, sample, values)
    return best


def covered(boxes: Floats) -> float:
    """Return the share of the unit square that boxes, (k, 4), cover together.

    The boxes' edges cut the square into a grid; a cell is covered if some box counts it, which the
    sums over a grid of differences tell for all boxes at once.
    """
    if not len(boxes):
        return 0.0
    inside = np.clip(boxes.astype(np.float64), 0, 1)
    across, down = np.unique(inside[:, 0::2]), np.unique(inside[:, 1::2])
    left, right = np.searchsorted(across, inside[:, 0]), np.searchsorted(across, inside[:, 2])
    top, bottom = np.searchsorted(down, inside[:, 1]), np.searchsorted(down, inside[:, 3])
    change = np.zeros((len(down), len(across)), np.int64)
    for rows, columns, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(change, (rows, columns), sign)
    is_covered = change.cumsum(0).cumsum(1)[:-1, :-1] > 0
    return min(1.0, float(np.diff(down) @ is_covered @ np.diff(across)))
