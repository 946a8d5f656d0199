"""Checks a pool: layout, columns, embeddings, shards; all that is wrong, and not only the first of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from ecodatum.errors import PoolError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.embeddings import open_embeddings
from ecodatum.pool.pool import (
    Part,
    Shard,
    deal_shards,
    metadata_files,
    open_parquet,
    open_shard,
    part_name,
    row_count,
    shard_files,
)
from ecodatum.pool.resharding import shard_uids
from ecodatum.pool.shards import IMAGE_EXTENSIONS
from ecodatum.pool.tar_index import ShardIndex, index_shard
from ecodatum.pool.uids import UidArray

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Fault:
    """Something that is wrong: with which file, and what."""

    where: Path
    what: str


@dataclass(frozen=True)
class Layout:
    """A pool's parts with the shards that were dealt to them, the shards that could not be, and faults."""

    parts: tuple[Part, ...]
    loose: tuple[Path, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class PartReport:
    """What was found in a part; `images` counts the samples in its shards, None if they were not read."""

    name: str
    rows: int
    shards: int
    images: int | None
    embeddings: bool
    faults: tuple[Fault, ...]


def check_layout(path: Path) -> Layout:
    """Find the parts and shards of a pool, and what is wrong with where they lie and how they add up.

    Raises PoolError when there is no pool at all.
    """
    path = path.expanduser().resolve()
    faults: list[Fault] = []
    files = metadata_files(path)
    rows = [_kept(faults, row_count, file) for file in files]
    tars = shard_files(path)
    shards = [_kept(faults, open_shard, tar) for tar in tars]
    faults += _gaps(tars)
    dealt: list[list[Shard]] | None = None
    readable = [(file, n) for file, n in zip(files, rows, strict=True) if n is not None]
    if None not in rows and None not in shards:
        whole = [shard for shard in shards if shard is not None]
        dealt = _kept(faults, deal_shards, whole, files, [n for _, n in readable])
    parts = tuple(
        Part(part_name(file, path), file, n, "", tuple(dealt[number]) if dealt else ())
        for number, (file, n) in enumerate(readable)
    )
    return Layout(parts, () if dealt else tuple(tars), tuple(faults))


def _kept(faults: list[Fault], work: Callable[..., _Result], *arguments: Any) -> _Result | None:
    """Return what `work` returns; a PoolError becomes a fault, and None."""
    try:
        return work(*arguments)
    except PoolError as error:
        faults.append(Fault(Path(error.where or ""), error.what))
        return None


def _gaps(tars: list[Path]) -> Iterator[Fault]:
    numbers = {int(tar.stem) for tar in tars if tar.stem.isdigit()}
    for tar in tars:
        if not tar.stem.isdigit():
            yield Fault(tar, "is not named by a number, as img2dataset names shards")
    for number in sorted(set(range(max(numbers, default=-1) + 1)) - numbers)[:100]:
        yield Fault(tars[0].with_name(f"{number:08d}.tar"), "is missing: the shards' numbers have a gap")


_TEXT: Final = (pa.types.is_string, pa.types.is_large_string)
_NUMBER: Final = (pa.types.is_integer, pa.types.is_floating)

#: CommonPool's columns, and the types that each may have.
COLUMNS: Final[dict[str, tuple[Callable[[Any], bool], ...]]] = {
    "uid": _TEXT,
    "url": _TEXT,
    "text": _TEXT,
    "original_width": _NUMBER,
    "original_height": _NUMBER,
    "clip_b32_similarity_score": (pa.types.is_floating,),
    "clip_l14_similarity_score": (pa.types.is_floating,),
    "face_bboxes": (lambda kind: _is_list(kind) and _is_boxes(kind.value_type),),
    "sha256": _TEXT,
}

#: The arrays of an npz.
ARRAYS: Final = ("b32_img", "b32_txt", "l14_img", "l14_txt")


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_boxes(kind: Any) -> bool:
    """Tell whether a list of that has boxes; a part without any face may not know what a box is."""
    return bool(pa.types.is_null(kind) or (_is_list(kind) and pa.types.is_floating(kind.value_type)))


def check_part(part: Part, uid_file: Path, shards: bool) -> PartReport:
    """Check a part, reading all of its metadata and, with `shards`, all of its tars.

    uid_file: where its uids are written to, sorted, for `repeated_uids`.
    """
    faults: list[Fault] = []
    uids = _kept(faults, _check_metadata, part, faults)
    ordered = np.empty(0, uid_arrays.UID) if uids is None else uids[uid_arrays.order(uids)]
    np.save(uid_file, ordered)
    embeddings = part.embeddings.exists()
    if embeddings:
        _kept(faults, _check_embeddings, part, faults)
    images: int | None = None
    if shards:
        known = None if uids is None else uid_arrays.UidIndex(ordered)
        counts = [_kept(faults, _check_shard, shard, known, part, faults) for shard in part.shards]
        images = sum(count or 0 for count in counts)
    return PartReport(part.name, part.rows, len(part.shards), images, embeddings, tuple(faults))


def _check_metadata(part: Part, faults: list[Fault]) -> UidArray | None:
    """Read all columns, note what is wrong with them, and return the uids."""
    file = open_parquet(part.metadata)
    kinds = {field.name: field.type for field in file.schema_arrow}
    for name, allowed in COLUMNS.items():
        if name not in kinds:
            faults.append(Fault(part.metadata, f"has no column {name}"))
        elif not any(is_kind(kinds[name]) for is_kind in allowed):
            faults.append(Fault(part.metadata, f"column {name} is of type {kinds[name]}"))
    found: list[UidArray] = []
    try:
        for batch in file.iter_batches():
            found += [uid_arrays.from_hex(batch["uid"].cast(pa.string()))] if "uid" in kinds else []
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"damaged parquet: {error}", where=part.metadata) from error
    except PoolError as error:
        raise PoolError(f"column uid: {error.what}", where=part.metadata) from None
    return np.concatenate(found) if found else None


def _check_embeddings(part: Part, faults: list[Fault]) -> None:
    """Open every array of the npz, which tells a file that was cut, and compare rows and widths."""
    with open_embeddings(part, ARRAYS) as embeddings:
        first = embeddings.read(min(1, part.rows))
    for model in ("b32", "l14"):
        image, text = first[f"{model}_img"].shape[1], first[f"{model}_txt"].shape[1]
        if image != text:
            faults.append(Fault(part.embeddings, f"{model}_img is of width {image}, {model}_txt of {text}"))


def _check_shard(shard: Shard, known: uid_arrays.UidIndex | None, part: Part, faults: list[Fault]) -> int:
    """Read a tar, and note what is wrong with it; return its number of samples."""
    index = index_shard(shard.path)
    if index.samples != shard.samples:
        what = f"has {index.samples} samples, its stats file tells of {shard.samples}"
        faults.append(Fault(shard.path, what))
    without = index.samples - _with_image(index)
    if without:
        faults.append(Fault(shard.path, f"{without} samples have no image"))
    uids = shard_uids(index)
    if known is not None:
        start, stop = known.runs(uids)
        strangers = int((start == stop).sum())
        if strangers:
            what = f"{strangers} of its {index.samples} samples are not in {part.metadata.name}"
            faults.append(Fault(shard.path, what))
    return index.samples


def _with_image(index: ShardIndex) -> int:
    """Count the samples that have an image with bytes in it."""
    kinds = [number for number, kind in enumerate(index.kinds) if kind in IMAGE_EXTENSIONS]
    images = np.isin(index.kind, kinds) & (index.size > 0)
    return int(np.add.reduceat(images, index.first[:-1]).astype(bool).sum()) if index.samples else 0


def check_loose(tars: tuple[Path, ...]) -> list[Fault]:
    """Read tars that belong to no part yet, to tell which are damaged."""
    faults: list[Fault] = []
    for tar in tars:
        _kept(faults, _read_shard, tar)
    return faults


def _read_shard(tar: Path) -> None:
    shard_uids(index_shard(tar))
