"""Writes the rows as a pool in CommonPool's layout: metadata, embeddings, shards as of img2dataset."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rows import Row

from ecodatum.pool.subsets import write_subset
from ecodatum.pool.uids import from_hex

#: Metadata rows of each part.
PART_ROWS: Final = (3300, 3100, 3250, 3150)
_SHARD_ROWS: Final = 1000
_TIME: Final = 1_700_000_000
_BOXES: Final = pa.list_(pa.list_(pa.float64()))


@dataclass(frozen=True)
class Embeddings:
    """The scorer's view of rows: `image` and `text`, each (n, dimension) float16 of length 1."""

    image: npt.NDArray[np.float16]
    text: npt.NDArray[np.float16]
    similarity: npt.NDArray[np.float32]


def write_pool(folder: Path, rows: list[Row], embeddings: Embeddings, seed: int) -> None:
    """Write `metadata/` and `shards/` under `folder`, which must not hold a pool yet."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "shards").mkdir()
    words = np.random.default_rng([seed, 2]).integers(0, 2**64, (len(PART_ROWS), 2), dtype=np.uint64)
    names = sorted(f"{high:016x}{low:016x}" for high, low in words.tolist())
    begin = shard = 0
    for name, count in zip(names, PART_ROWS, strict=True):
        end = begin + count
        metadata = _metadata(rows[begin:end], embeddings.similarity[begin:end])
        pq.write_table(metadata, folder / "metadata" / f"{name}.parquet")
        image, text = embeddings.image[begin:end], embeddings.text[begin:end]
        _write_npz(
            folder / "metadata" / f"{name}.npz",
            {"b32_img": image, "b32_txt": text, "l14_img": image, "l14_txt": text},
        )
        for start in range(begin, end, _SHARD_ROWS):
            _write_shard(folder / "shards", shard, rows[start : min(start + _SHARD_ROWS, end)])
            shard += 1
        begin = end
    if begin != len(rows):
        raise ValueError(f"{len(rows)} rows do not fill parts of {begin}")


def write_truth(folder: Path, rows: list[Row]) -> None:
    """Write what each row truly is, and the oracle's subset, all good rows; no filter may read either."""
    write_subset(folder / "oracle.npy", from_hex(pa.array([row.uid for row in rows if row.clean])))
    columns: dict[str, list[Any]] = {
        "uid": [row.uid for row in rows],
        "clean": [row.clean for row in rows],
        "kind": [row.kind for row in rows],
        "second": [row.second or None for row in rows],
        "detail": [row.detail or None for row in rows],
        "dup_of": [row.dup_of or None for row in rows],
        "missing": [row.missing for row in rows],
        "concept": [row.concept.name for row in rows],
        "vendor": [row.vendor for row in rows],
    }
    strings = {name: pa.string() for name in ("second", "detail", "dup_of")}
    table = pa.table({name: pa.array(values, strings.get(name)) for name, values in columns.items()})
    pq.write_table(table, folder / "truth.parquet", compression="zstd", compression_level=19)


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file with a fixed time and owner."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o444, _TIME
    info.uname = info.gname = "bigdata"  # as webdataset's writer has it
    tar.addfile(info, io.BytesIO(data))


def _metadata(rows: list[Row], similarity: npt.NDArray[np.float32]) -> pa.Table:
    scores = pa.array(similarity, pa.float32())
    return pa.table(
        {
            "uid": [row.uid for row in rows],
            "url": [row.url for row in rows],
            "text": [row.caption for row in rows],
            "original_width": [row.original_width for row in rows],
            "original_height": [row.original_height for row in rows],
            "clip_b32_similarity_score": scores,
            "clip_l14_similarity_score": scores,
            "face_bboxes": pa.array([[] for _ in rows], _BOXES),
            "sha256": [hashlib.sha256(row.image).hexdigest() for row in rows],
        }
    )


def _write_npz(path: Path, arrays: dict[str, npt.NDArray[np.float16]]) -> None:
    """As np.savez, whose zip entries would carry the time of day: `savez` fixes it at 1980."""
    np.savez(path, allow_pickle=False, **arrays)


def _write_shard(folder: Path, shard: int, rows: list[Row]) -> None:
    records = [_record(f"{shard:08d}{index:03d}", row) for index, row in enumerate(rows)]
    with tarfile.open(folder / f"{shard:08d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, record in zip(rows, records, strict=True):
            if row.missing:
                continue
            key = record["key"]
            add_member(tar, f"{key}.webp", row.image)
            add_member(tar, f"{key}.json", json.dumps(record, indent=4).encode())
            add_member(tar, f"{key}.txt", row.caption.encode())
    strings = ("uid", "caption", "url", "key", "status", "error_message", "exif", "sha256")
    fields = {"face_bboxes": _BOXES, **dict.fromkeys(strings, pa.string())}
    schema = pa.schema([(name, fields.get(name, pa.int64())) for name in records[0]])
    pq.write_table(pa.Table.from_pylist(records, schema), folder / f"{shard:08d}.parquet")
    stats = _stats(record["status"] == "success" for record in records)
    (folder / f"{shard:08d}_stats.json").write_text(json.dumps(stats, indent=4))


def _record(key: str, row: Row) -> dict[str, Any]:
    """A row as img2dataset describes it, in its json and in the shard's parquet."""
    there = not row.missing
    return {
        "uid": row.uid,
        "face_bboxes": [],
        "caption": row.caption,
        "url": row.url,
        "key": key,
        "status": "success" if there else "failed_to_download",
        "error_message": None if there else "HTTP Error 404: Not Found",
        "width": row.width if there else None,
        "height": row.height if there else None,
        "original_width": row.original_width if there else None,
        "original_height": row.original_height if there else None,
        "exif": "{}" if there else None,
        "sha256": hashlib.sha256(row.image).hexdigest() if there else None,
    }


def _stats(successes: Iterable[bool]) -> dict[str, Any]:
    outcome = list(successes)
    good = sum(outcome)
    return {
        "count": len(outcome),
        "successes": good,
        "failed_to_download": len(outcome) - good,
        "failed_to_resize": 0,
        "duration": 1.0,
        "start_time": float(_TIME),
        "end_time": float(_TIME + 1),
        "status_dict": {"success": good, "HTTP Error 404: Not Found": len(outcome) - good},
    }
