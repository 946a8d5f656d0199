"""Makers of small pools, and the reference data of the peers."""

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecodatum.pool.shards import ShardWriter

ROOT = Path(__file__).resolve().parent.parent

#: Overrides of a made pool's rows: by row number, metadata columns, or `image` (bytes, or None: a dead link).
Changes = Mapping[int, Mapping[str, Any]]
MakePool = Callable[..., Path]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The peers' data to test against; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("ECODATUM_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("the peers' reference data is absent (set ECODATUM_REFERENCE)")
    return folder


@pytest.fixture
def make_pool(tmp_path: Path) -> MakePool:
    """Return a maker of pools in CommonPool's layout: `make_pool(name, rows=24, parts=2, changes={})`."""

    def make(name: str = "pool", rows: int = 24, parts: int = 2, changes: Changes | None = None) -> Path:
        return write_pool(tmp_path / name, rows, parts, changes or {})

    return make


def write_pool(folder: Path, rows: int, parts: int, changes: Changes) -> Path:
    """Write a pool of `rows` rows a part, two shards a part; each image is a coloured disc, captioned."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "shards").mkdir()
    for part in range(parts):
        table = [_row(part * rows + i, changes.get(part * rows + i, {})) for i in range(rows)]
        images = [row.pop("image") for row in table]
        pq.write_table(pa.Table.from_pylist(table), folder / "metadata" / f"{part:032x}.parquet")
        half = (rows + 1) // 2
        for shard, start in enumerate((0, half)):
            stem = folder / "shards" / f"{2 * part + shard:08d}"
            end = min(start + half, rows)
            _write_shard(stem, table[start:end], images[start:end])
    return folder


_COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (230, 220, 40)}


def _row(number: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    colour = list(_COLOURS)[number % len(_COLOURS)]
    row = {
        "uid": f"{(number * 0x9E3779B97F4A7C15 + 1) % 2**128:032x}",
        "url": f"https://example.org/{number}.png",
        "text": f"a photo of a {colour} disc number {number}",
        "original_width": 320,
        "original_height": 240 + number,
        "clip_b32_similarity_score": (number * 37 % 101) / 200,
        "clip_l14_similarity_score": (number * 53 % 101) / 200,
        "face_bboxes": [],
        "sha256": f"{number:064x}",
        "image": disc(colour, number),
    }
    return {**row, **changes}


def disc(colour: str, number: int) -> bytes:
    """Return a PNG, 48 by 36 pixels, of a disc of that colour on a ground that `number` chooses."""
    y, x = np.mgrid[:36, :48]
    inside = (x - 24 - number % 5) ** 2 + (y - 18) ** 2 < 150
    ground = np.random.default_rng(number).integers(90, 160, (36, 48, 3), np.uint8)
    pixels = np.where(inside[..., None], np.array(_COLOURS[colour], np.uint8), ground)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write_shard(stem: Path, rows: list[dict[str, Any]], images: list[bytes | None]) -> None:
    written = 0
    with stem.with_suffix(".tar").open("wb") as file:
        writer = ShardWriter(file)
        for index, (row, image) in enumerate(zip(rows, images, strict=True)):
            if image is None:
                continue
            key = f"{int(stem.name):05d}{index:06d}"
            text = {"uid": row["uid"], "caption": row["text"], "key": key}
            members = {"png": image, "json": json.dumps(text).encode(), "txt": str(row["text"]).encode()}
            writer.write(key, members)
            written += 1
        writer.close()
    stats = {"count": len(rows), "successes": written}
    stem.with_name(f"{stem.name}_stats.json").write_text(json.dumps(stats))
