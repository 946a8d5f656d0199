"""Makers of captions, images, parts of a pool, and a CLIP model that is small enough to build in a test."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ecodatum.fingerprint import file_fingerprint
from ecodatum.pool.pool import Part, Shard
from ecodatum.pool.shards import ShardWriter


@dataclass(frozen=True)
class Row:
    """A metadata row; `image` None means that its link is dead."""

    uid: int
    text: str | None
    image: bytes | None = None


def make_part(folder: Path, rows: Sequence[Row], *, strangers: Sequence[Row] = (), **columns: Any) -> Part:
    """Write the rows as metadata, and those with an image, then the strangers, in shards of three."""
    metadata = folder / "metadata" / "part.parquet"
    metadata.parent.mkdir(parents=True)
    table = {"uid": [f"{row.uid:032x}" for row in rows], "text": [row.text for row in rows], **columns}
    pq.write_table(pa.table(table), metadata)
    samples = [row for row in (*rows, *strangers) if row.image is not None]
    shards = []
    for number, start in enumerate(range(0, len(samples), 3)):
        path = folder / "shards" / f"{number:08d}.tar"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            tar = ShardWriter(file)
            for index, row in enumerate(samples[start : start + 3]):
                tar.write(f"{number:03d}{index:03d}", _members(row))
            tar.close()
        shards.append(Shard(path, 3, tar.samples))
    return Part("part", metadata, len(rows), file_fingerprint(metadata), tuple(shards))


def _members(row: Row) -> dict[str, bytes]:
    members = {"jpg": row.image or b"", "json": json.dumps({"uid": f"{row.uid:032x}"}).encode()}
    return members if row.text is None else {**members, "txt": row.text.encode()}


def picture(width: int = 40, height: int = 30, *, seed: int = 0) -> Image.Image:
    """A smooth random RGB image."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def batch(**columns: Any) -> pa.RecordBatch:
    """A record batch from lists."""
    return pa.RecordBatch.from_pydict(columns)


def save_tiny_clip(folder: Path) -> tuple[Path, Path]:
    """Save the config and the random weights of a very small CLIP model; return their paths."""
    import open_clip
    import torch

    from ecodatum.operators.clip_models import register

    config = folder / "tiny-operator-clip.json"
    tower = {"layers": 1, "width": 32}
    config.write_text(
        json.dumps(
            {
                "embed_dim": 16,
                "vision_cfg": {**tower, "image_size": 16, "patch_size": 8, "head_width": 16},
                "text_cfg": {**tower, "context_length": 12, "vocab_size": 49408, "heads": 2},
            }
        )
    )
    torch.manual_seed(0)
    model = open_clip.create_model(register(str(config)))
    weights = folder / "weights.pt"
    torch.save(model.state_dict(), weights)
    return config, weights
