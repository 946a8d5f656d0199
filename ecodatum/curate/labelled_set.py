"""Labelled sets: known good pairs against known bad ones, as a small pool with a labels file."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ecodatum.curate.drawing import Drawn, Eligible, draw_samples
from ecodatum.curate.labels import DROP, HEADER, KEEP, LABELS_FILE, csv_lines
from ecodatum.curate.spoiling import EXCHANGED, FAULTS, degrade, exchange
from ecodatum.errors import ConfigError
from ecodatum.files import replacing, write_json
from ecodatum.operators.images import decode
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, Pool, read_columns
from ecodatum.pool.shards import IMAGE_EXTENSIONS, Sample, ShardWriter

TRUSTED: Final = "trusted"

_SHARD_SIZE = 10_000


@dataclass(frozen=True)
class _Pair:
    """A pair of the set: its uid there, what was done to it, its members and its metadata row."""

    uid: str
    kind: str
    sample: Sample
    row: Mapping[str, Any]


def make_labelled_set(
    pool: Pool, out: Path, *, count: int, seed: int, eligible: Eligible | None
) -> Counter[str]:
    """Write a labelled set of `count` pairs to the new folder `out`, and return how many of each kind it has.

    Half are drawn from the pool's eligible samples and left as they are; the other half are drawn alike
    and spoiled: one in two gets the caption of another pair (as in the paper), the others a faulty image. A
    spoiled pair has a uid of its own, and null where its metadata's similarity would be wrong. Embeddings are
    not written. Raises ConfigError where the folder is there already or the pool has too few samples.
    """
    if count < 8:
        raise ConfigError("a labelled set needs 8 pairs at least", where=f"--count {count}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("is there already", where=out, todo="choose another folder, or remove it")
    drawn = draw_samples(pool, count, seed, eligible)
    rows = _metadata(drawn)
    rng = np.random.default_rng([seed, 1])
    good = [_Pair(d.uid, TRUSTED, d.sample, rows[d.uid]) for d in drawn[: count // 2]]
    bad = drawn[count // 2 :]
    half = (len(bad) + 1) // 2
    pairs = [*good, *_exchanged(bad[:half], rows, rng), *_degraded(bad[half:], rows)]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    with replacing(out) as temporary:
        _write(pairs, temporary, drawn[0].part)
    return Counter(pair.kind for pair in pairs)


def _metadata(drawn: Sequence[Drawn]) -> dict[str, dict[str, Any]]:
    """Return the metadata row of each sample, by uid."""
    wanted = uid_arrays.from_hex(pa.array([d.uid for d in drawn]))
    index = uid_arrays.UidIndex(wanted[uid_arrays.order(wanted)])
    found: dict[str, dict[str, Any]] = {}
    for part in {d.part.metadata: d.part for d in drawn}.values():
        names = pq.read_schema(part.metadata).names
        for batch in read_columns(part, names):
            start, stop = index.runs(uid_arrays.from_hex(batch.column("uid")))
            rows = batch.take(pa.array(np.flatnonzero(start < stop)))
            found |= {row["uid"]: row for row in rows.to_pylist()}
    return found


def _exchanged(
    drawn: Sequence[Drawn], rows: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
) -> list[_Pair]:
    captions = [d.caption for d in drawn]
    pairs = []
    for d, other in zip(drawn, exchange(captions, rng), strict=True):
        row = {**rows[d.uid], "text": rows[drawn[other].uid]["text"]}
        sample = replace(d.sample, members={**d.sample.members, "txt": captions[other].encode()})
        pairs.append(_spoiled(d, EXCHANGED, sample, row, {"caption": captions[other]}))
    return pairs


def _degraded(drawn: Sequence[Drawn], rows: Mapping[str, Mapping[str, Any]]) -> list[_Pair]:
    faults = list(FAULTS)
    pairs = []
    for number, d in enumerate(drawn):
        fault, image = faults[number % len(faults)], decode(d.sample.image)
        assert isinstance(image, Image.Image)  # `draw_samples` leaves out what cannot be decoded
        data, (width, height) = degrade(image, fault)
        row = dict(rows[d.uid])
        scale = max(row["original_width"], row["original_height"]) / max(width, height)
        size = {"original_width": round(width * scale), "original_height": round(height * scale)}
        digest = hashlib.sha256(data).hexdigest()
        members = {k: v for k, v in d.sample.members.items() if k not in IMAGE_EXTENSIONS}
        sample = replace(d.sample, members={"jpg": data, **members})
        told = {**size, "width": width, "height": height, "sha256": digest}
        pairs.append(_spoiled(d, fault, sample, {**row, **size, "sha256": digest}, told))
    return pairs


def _spoiled(
    drawn: Drawn, kind: str, sample: Sample, row: Mapping[str, Any], told: Mapping[str, Any]
) -> _Pair:
    """Give a spoiled pair its own uid, and its json and metadata what holds for it."""
    uid = hashlib.sha256(f"{drawn.uid} {kind}".encode()).hexdigest()[:32]
    document = {**json.loads(drawn.sample.members["json"]), **told, "uid": uid}
    members = {**sample.members, "json": json.dumps(document).encode()}
    unknown = {name: None for name in row if name.endswith("_similarity_score")}
    return _Pair(uid, kind, replace(sample, members=members), {**row, "uid": uid, **unknown})


def _write(pairs: Sequence[_Pair], folder: Path, like: Part) -> None:
    (folder / "metadata").mkdir(parents=True)
    (folder / "shards").mkdir()
    schema = pq.read_schema(like.metadata).remove_metadata()
    table = pa.Table.from_pylist([dict(pair.row) for pair in pairs], schema=schema)
    pq.write_table(table, folder / "metadata" / f"{0:032x}.parquet")
    for number, start in enumerate(range(0, len(pairs), _SHARD_SIZE)):
        few = pairs[start : start + _SHARD_SIZE]
        stem = folder / "shards" / f"{number:08d}"
        with stem.with_suffix(".tar").open("wb") as file:
            writer = ShardWriter(file)
            for place, pair in enumerate(few):
                writer.write(f"{number:05d}{place:04d}", pair.sample.members)
            writer.close()
        write_json(stem.with_name(f"{stem.name}_stats.json"), {"count": len(few), "successes": len(few)})
    lines = [(p.uid, KEEP if p.kind == TRUSTED else DROP, p.kind) for p in pairs]
    (folder / LABELS_FILE).write_text(csv_lines([HEADER, *lines]), encoding="utf-8")
