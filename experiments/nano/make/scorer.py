"""The pool's scorer: a small CLIP trained on clean pairs of vendors that neither pool nor tasks contain."""

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import captions
import numpy as np
import numpy.typing as npt
import open_clip
import torch
from faults import IMAGE_FAULTS
from PIL import Image
from pool import Embeddings
from render import SIDE, photograph, rasterise
from rows import Row
from sources import Concept, vendors

from ecodatum.operators.clip_models import load, register

_MERGES: Final = 2048
_BATCH: Final = 64
_STEPS: Final = 1200
_LEARNING_RATE: Final = 2e-3
#: Renders of each icon that training draws from.
_RENDERS: Final = 24
#: Share of the renders that are slightly blurred, dark or pale, so that the scorer is no quality filter.
_DEGRADED: Final = 0.1


def write_vocabulary(path: Path) -> None:
    """Write open_clip's byte-pair merges cut to the first 2,048: 2,562 tokens with bytes and marks."""
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[: _MERGES + 1]
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write("\n".join(lines).encode())


@dataclass(frozen=True)
class _Clean:
    """Training images, (concepts, variants, 3, SIDE, SIDE) uint8."""

    images: torch.Tensor
    concepts: list[Concept]


def train(concepts: list[Concept], cache_folder: Path, config: Path, weights: Path, seed: int) -> None:
    """Train the scorer on one thread and write its weights as a float16 state dict."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 3])
    clean = _clean_set(concepts, cache_folder, rng)
    name = register(str(config))
    network = open_clip.create_model(name)
    tokenizer = open_clip.get_tokenizer(name)
    loss_of = open_clip.ClipLoss()
    side = int(open_clip.get_model_config(name)["vision_cfg"]["image_size"])
    optimizer = torch.optim.AdamW(_groups(network), lr=_LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=_STEPS, pct_start=0.1, cycle_momentum=False
    )
    network.train()
    for step in range(_STEPS):
        images, texts = _batch(clean, tokenizer, rng, side)
        loss = loss_of(*network(images, texts)[:3])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            network.logit_scale.clamp_(0, np.log(100))
        if step % 100 == 0:
            print(f"scorer: step {step} of {_STEPS}, loss {loss.item():.3f}", flush=True)
    state = {key: _halved(value) for key, value in network.state_dict().items()}
    torch.save(state, weights)


def embed(rows: list[Row], config: Path, weights: Path) -> Embeddings:
    """Score the rows as their image files and captions are, with the weights as they were written."""
    torch.set_num_threads(1)
    network, transform, tokenizer = load(register(str(config)), weights, device="cpu")
    image, text = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), 256):
            batch = rows[start : start + 256]
            pixels = [transform(Image.open(io.BytesIO(row.image)).convert("RGB")) for row in batch]
            image.append(network.encode_image(torch.stack(pixels), normalize=True).numpy())
            text.append(
                network.encode_text(tokenizer([row.caption for row in batch]), normalize=True).numpy()
            )
    images, texts = np.concatenate(image), np.concatenate(text)
    return Embeddings(
        images.astype(np.float16), texts.astype(np.float16), np.einsum("nd,nd->n", images, texts)
    )


def _clean_set(concepts: list[Concept], cache_folder: Path, rng: np.random.Generator) -> _Clean:
    faults = list(IMAGE_FAULTS.values())[:3]
    images: list[npt.NDArray[np.uint8]] = []
    for concept in concepts:
        for vendor in vendors("scorer"):
            icon = rasterise(cache_folder, vendor, concept)
            for _ in range(_RENDERS):
                image = photograph(icon, rng)
                if rng.random() < _DEGRADED:
                    fault = faults[rng.integers(len(faults))]
                    image = Image.blend(image, fault(image, rng), float(rng.uniform(0.3, 0.7)))
                images.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return _Clean(stacked.reshape(len(concepts), -1, *stacked.shape[1:]), concepts)


def _batch(
    clean: _Clean, tokenizer: Any, rng: np.random.Generator, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of distinct concepts, so that no pair is a negative of its own kind."""
    chosen = rng.permutation(len(clean.concepts))[:_BATCH]
    variants = rng.integers(0, clean.images.shape[1], len(chosen))
    views = [_view(clean.images[c, v], rng, side) for c, v in zip(chosen, variants, strict=True)]
    pixels = _recoloured(torch.stack(views), rng)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    texts = tokenizer([captions.good(clean.concepts[c], rng) for c in chosen])
    return (pixels - mean) / std, texts


def _view(image: torch.Tensor, rng: np.random.Generator, side: int) -> torch.Tensor:
    """A random crop, often mirrored and sometimes upside down; (3, side, side) float in 0..1."""
    height, width = (round(SIDE * float(rng.uniform(0.75, 1.0))) for _ in range(2))
    top, left = int(rng.integers(0, SIDE - height + 1)), int(rng.integers(0, SIDE - width + 1))
    crop = image[None, :, top : top + height, left : left + width].float() / 255
    view = torch.nn.functional.interpolate(crop, (side, side), mode="bilinear", antialias=True)[0]
    if rng.random() < 0.5:
        view = view.flip(2)
    return view.flip(1) if rng.random() < 0.2 else view


def _recoloured(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary brightness, contrast and saturation of each image: vendors differ most in their palettes."""
    gain, offset, colour = (
        torch.from_numpy(rng.uniform(low, high, (len(pixels), 1, 1, 1)).astype(np.float32))
        for low, high in ((0.7, 1.3), (-0.15, 0.15), (0.3, 1.4))
    )
    grey = pixels.mean(1, keepdim=True)
    return ((grey + (pixels - grey) * colour - 0.5) * gain + 0.5 + offset).clamp(0, 1)


def _groups(network: torch.nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only, as open_clip's trainer has it."""
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    exempt = {name for name, weight in named if weight.ndim < 2 or "bn" in name or "ln" in name}
    return [
        {"params": [weight for name, weight in named if name in exempt], "weight_decay": 0.0},
        {"params": [weight for name, weight in named if name not in exempt], "weight_decay": 0.1},
    ]


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
