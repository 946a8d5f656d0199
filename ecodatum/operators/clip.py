"""CLIP similarity of image and caption, also with the image flipped (H-CLIP, V-CLIP)."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pydantic import Field

from ecodatum.errors import AssetError
from ecodatum.operators import clip_models
from ecodatum.operators.assets import clip_asset, declared, find_asset
from ecodatum.operators.operator import Column, ImageBatch, ImageOperator, Parameters, Scores, fault_where

if TYPE_CHECKING:
    import torch

_WEIGHT_FILES: Final = (".pt", ".pth", ".bin", ".safetensors")

Flip = Literal["none", "horizontal", "vertical"]

#: The column that each flip gives, and how PIL turns the image.
_COLUMNS: Final[Mapping[Flip, str]] = {
    "none": "similarity",
    "horizontal": "hclip_similarity",
    "vertical": "vclip_similarity",
}
_TURNS: Final[Mapping[Flip, Image.Transpose]] = {
    "horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
    "vertical": Image.Transpose.FLIP_TOP_BOTTOM,
}


class ClipParameters(Parameters):
    """model: a name of open_clip's, or the path of a JSON config in its form.

    weights: the path of a state dict or checkpoint, an asset, or a name that open_clip lists for the model.
    flips: which views of the image to score; the caption is encoded once for all.
    """

    model: str = "ViT-L-14"
    weights: str = "openai"
    flips: Annotated[tuple[Flip, ...], Field(min_length=1, strict=False)] = ("none",)
    precision: Literal["fp32", "bf16"] = "fp32"


class Clip(ImageOperator):
    """The cosine between the embeddings of an image and its caption."""

    name = "clip"
    version = 1
    runs_on = "gpu"
    parameters_type = ClipParameters

    def __init__(self, parameters: ClipParameters) -> None:
        super().__init__(parameters)
        self._settings = parameters
        self._flips = tuple(flip for flip in _COLUMNS if flip in parameters.flips)
        self._config_files = clip_models.config_files(parameters.model)
        self._weights, self._listed = _find_weights(parameters)
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column for each flip."""
        return tuple(
            Column(_COLUMNS[flip], pa.float32(), f"cosine of image (flip: {flip}) and caption", -1, 1)
            for flip in self._flips
        )

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The model's config and vocabulary, and its weights, where they are files."""
        # The name counts too where open_clip lists the weights: it says which activation they need.
        weights = "weights_file" if self._listed else "weights"
        files = {"model": self._config_files, weights: (self._weights,) if self._weights.is_file() else ()}
        return {key: paths for key, paths in files.items() if paths}

    def prepare(self, device: str) -> None:
        """Load the model onto the device."""
        self._device = device
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        return clip_models.load(
            clip_models.register(self._settings.model),
            self._weights,
            listed=self._listed,
            device=self._device,
            precision=self._settings.precision,
        )

    def view(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize and crop as open_clip does at inference, (flips, height, width, 3) uint8.

        Resizing commutes with flipping to the bit, the crop does not where it cuts an odd number of
        pixels: so the image is resized once, and flipped between the two.
        """
        resize, *crop, _, _ = self._loaded[1].transforms
        resized = resize(image if image.mode == "RGB" else image.convert("RGB"))
        turned = [resized.transpose(_TURNS[flip]) if flip in _TURNS else resized for flip in self._flips]
        for step in crop:
            turned = [step(picture) for picture in turned]
        return np.stack([np.asarray(picture) for picture in turned])

    def score(self, batch: ImageBatch) -> Scores:
        """Embed the captions once and the images once a flip; a sample without a caption has no score."""
        import torch

        model, _, tokenizer = self._loaded
        missing = np.array([caption is None for caption in batch.captions], bool)
        threads = 1 if self._device == "cpu" else None
        with clip_models.cpu_threads(threads), torch.inference_mode():
            tokens = tokenizer([caption or "" for caption in batch.captions]).to(self._device)
            captions = _unit(model.encode_text(tokens))
            pictures = torch.from_numpy(np.stack(batch.views))
            cosines = [
                (_unit(model.encode_image(self._input(pictures[:, flip]))) * captions).sum(-1).clamp(-1, 1)
                for flip in range(len(self._flips))
            ]
        values = {
            _COLUMNS[flip]: pa.array(cosine.cpu().numpy(), mask=missing)
            for flip, cosine in zip(self._flips, cosines, strict=True)
        }
        return self.scores(values, fault_where(missing, "no caption"))

    def _input(self, pictures: "torch.Tensor") -> "torch.Tensor":
        """Scale and normalise on the device what `view` left as bytes, (n, height, width, 3)."""
        from open_clip import get_input_dtype

        normalise = self._loaded[1].transforms[-1]
        scaled = pictures.to(self._device).permute(0, 3, 1, 2).float() / 255
        result: torch.Tensor = normalise(scaled).to(get_input_dtype(self._settings.precision))
        return result


def _find_weights(parameters: ClipParameters) -> tuple[Path, str | None]:
    """Return the weights' file, and the name under which open_clip lists them, if that was given.

    Listed weights that are no asset have no file: open_clip looks in its cache. Raises AssetError for
    a file that is not there.
    """
    path = Path(parameters.weights).expanduser()
    if path.suffix in _WEIGHT_FILES or path.is_file():
        if not path.is_file():
            raise AssetError("no such weights", where=path)
        return path, None
    if parameters.weights in declared():
        return find_asset(parameters.weights, what="CLIP weights"), None
    asset = clip_asset(parameters.model, parameters.weights)
    place = find_asset(asset.name, what=asset.what) if asset else path
    return place, parameters.weights


def _unit(embeddings: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.nn.functional.normalize(embeddings.float(), dim=-1)
