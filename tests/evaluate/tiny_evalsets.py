"""A tiny model, and small evaluation sets in DataComp's layout."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ecodatum.operators.clip_models import register
from ecodatum.pool.shards import ShardWriter

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CLASSES = ("red", "green", "blue", "yellow", "black", "white")
TEMPLATES = ("a {c} picture", "{c}")


@dataclass(frozen=True)
class Model:
    """A model's config and a checkpoint of it."""

    config: Path
    checkpoint: Path


def make_model(folder: Path) -> Model:
    """Write a model's config and a checkpoint with random weights."""
    config = folder / "test-evaluate.json"
    config.write_text(json.dumps(MODEL))
    torch.manual_seed(0)
    network = open_clip.create_model(register(str(config)))
    torch.save({"epoch": 1, "state_dict": network.state_dict()}, folder / "epoch_latest.pt")
    return Model(config, folder / "epoch_latest.pt")


def picture(rng: np.random.Generator) -> bytes:
    """A small random picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_labelled(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    *,
    samples: int = 24,
    metadata: Iterable[Sequence[int]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a labelled set of two shards, and return its folder."""
    rng = np.random.default_rng(seed)
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    (folder / "test" / "nshards.txt").write_text("2\n")
    values = list(metadata) if metadata is not None else None
    for shard, indices in enumerate(np.array_split(np.arange(samples), 2)):
        with (folder / "test" / f"{shard}.tar").open("wb") as file:
            writer = ShardWriter(file)
            for index in indices:
                members = {"cls": str(index % len(classes)).encode(), "png": picture(rng)}
                if values is not None:
                    buffer = io.BytesIO()
                    np.save(buffer, np.array(values[index], np.int64))
                    members["npy"] = buffer.getvalue()
                writer.write(f"s{index:04d}", members)
            writer.close()
    return folder


def write_retrieval(folder: Path, images: int = 12) -> Path:
    """Write a retrieval set of two captions an image, and return its folder."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    table = pa.table(
        {
            "image": [{"bytes": picture(rng), "path": f"{number}.png"} for number in range(images)],
            "caption": [[f"picture {number}", f"number {number}"] for number in range(images)],
        }
    )
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    return folder
