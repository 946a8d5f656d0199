"""A tiny model and tiny shards to train it on."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import open_clip.tokenizer
from PIL import Image

from ecodatum.pool.shards import ShardWriter

MERGES = 64
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": {
        "context_length": 8,
        "vocab_size": 514 + MERGES,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"},
    },
}
SCALE = """\
name: tiny
model: tiny-clip.json
batch_size: 8
samples_seen: 240
learning_rate: 1.0e-3
warmup: 2
checkpoints: 3
weight_decay: 0.1
grad_clip_norm: 1.0
crop_scale: [0.64, 1.0]
grad_checkpointing: false
"""


def make_scale(folder: Path) -> Path:
    """Write a scale of one's own beside its model and vocabulary, and return its file."""
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as full:
        lines = [next(full) for _ in range(MERGES + 1)]
    with gzip.open(folder / "bpe.txt.gz", "wt", encoding="utf-8") as short:
        short.write("".join(lines).removesuffix("\n"))  # a last empty line would count as a merge
    (folder / "tiny-clip.json").write_text(json.dumps(MODEL))
    (folder / "scale.yaml").write_text(SCALE)
    return folder / "scale.yaml"


def make_shards(folder: Path) -> Path:
    """Write three shards of twenty pairs, a colour and its name, and return their folder."""
    rng = np.random.default_rng(0)
    for number in range(3):
        with (folder / f"{number:08d}.tar").open("wb") as file:
            writer = ShardWriter(file)
            for index in range(20):
                colour = rng.integers(0, 256, 3, dtype=np.uint8)
                caption = f"red {colour[0]} green {colour[1]} blue {colour[2]}"
                writer.write(f"{number:04d}{index:04d}", {"png": png(colour), "txt": caption.encode()})
            writer.close()
    return folder


def png(colour: np.ndarray) -> bytes:
    """A plain 20-pixel square with a dark corner, as PNG."""
    pixels = np.broadcast_to(colour, (20, 20, 3)).copy()
    pixels[:8, :8] //= 2
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
