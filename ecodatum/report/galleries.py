"""Galleries: samples that a filter keeps or drops, drawn by a hash of their uids, with images and votes."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecodatum.errors import PoolError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, Pool, Shard, open_parquet, read_columns
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import UidArray
from ecodatum.report.curated import Curated
from ecodatum.report.thumbnails import Thumbnail, thumbnails
from ecodatum.report.verdicts import Verdict, verdicts
from ecodatum.splitmix import mixed

#: How many samples a gallery shows, and how many are drawn, since some may have no image.
SHOWN: Final = 12
_DRAWN: Final = 2 * SHOWN
#: The filters that are compared with the first ensemble at most, sample by sample.
_COMPARED: Final = 6
#: Images are read from so many shards at most, spread over the pool.
_SHARDS: Final = 12
_CHUNK: Final = 1 << 20
_CAPTION: Final = 120

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shown:
    """A sample in a gallery; image is None where there is none, and `note` says why."""

    uid: str
    caption: str
    image: Thumbnail | None
    note: str
    verdict: Verdict | None


@dataclass(frozen=True)
class Gallery:
    """What a filter kept or dropped, or one kept and another dropped; total: how many samples that are."""

    name: str
    kept_by: Curated | None
    dropped_by: Curated | None
    total: int
    samples: tuple[Shown, ...] = ()

    def has(self, keeps: Mapping[str, Mask]) -> Mask:
        """Tell which rows are in it, from which of them each filter keeps."""
        (first, *_) = keeps.values()
        inside = np.ones(len(first), bool)
        if self.kept_by:
            inside &= keeps[self.kept_by.name]
        if self.dropped_by:
            inside &= ~keeps[self.dropped_by.name]
        return inside

    @property
    def judge(self) -> Curated | None:
        """The filter whose votes are shown: an ensemble before one that has rules."""
        found = [f for f in (self.kept_by, self.dropped_by) if f and f.recipe]
        return next((f for f in found if f.model), found[0] if found else None)


class _Place(NamedTuple):
    """Rows of a part, from which samples are drawn, with the shard that holds them."""

    part: Part
    start: int
    stop: int
    shard: Shard | None


class _Drawn(NamedTuple):
    """A row that was drawn, ordered by the hash of its uid."""

    order: int
    uid: str
    place: int
    row: int


def galleries(pool: Pool, filters: Sequence[Curated]) -> tuple[Gallery, ...]:
    """Return the galleries of the filters whose subset is there, with their samples.

    The same pool and subsets give the same samples. Memory is a part's uids, and what is shown.
    """
    there = [item for item in filters if item.subset]
    wanted = [*_own(pool, there), *_pairs(pool, there)]
    if not wanted:
        return ()
    places = _places(pool)
    drawn = _draw(places, there, wanted)
    rows = _by_place(sample for few in drawn.values() for sample in few)
    captions = _captions(places, rows)
    images = _images(places, rows)
    judged = _judge(places, wanted, drawn)
    return tuple(_filled(g, drawn[g.name], captions, images, judged) for g in wanted)


def _own(pool: Pool, filters: Sequence[Curated]) -> Iterator[Gallery]:
    for item in filters:
        yield Gallery(f"{item.name}-kept", item, None, item.kept)
        # A uid that the pool has twice is kept twice.
        yield Gallery(f"{item.name}-dropped", None, item, max(0, pool.rows - item.kept))


def _pairs(pool: Pool, filters: Sequence[Curated]) -> Iterator[Gallery]:
    """Compare the first ensemble with the first few of the other filters that drop anything."""
    first = next((item for item in filters if item.model), None)
    if first is None:
        return
    others = [item for item in filters if item is not first and item.kept < pool.rows]
    for other in others[:_COMPARED]:
        for kept, dropped in ((first, other), (other, first)):
            yield Gallery(f"{kept.name}-not-{dropped.name}", kept, dropped, _without(kept, dropped))


def _without(kept: Curated, dropped: Curated) -> int:
    """Count the uids that one filter keeps and the other drops."""
    if kept.subset is None:
        return 0
    uids = read_subset(kept.subset)
    chunks = (uids[start : start + _CHUNK] for start in range(0, len(uids), _CHUNK))
    return sum(int((~dropped.keeps(chunk)).sum()) for chunk in chunks)


def _places(pool: Pool) -> list[_Place]:
    """Return shards that are spread evenly over the pool; of a part without shards, all its rows."""
    every: list[_Place] = []
    for part in pool.parts:
        start = 0
        for shard in part.shards:
            every.append(_Place(part, start, start + shard.rows, shard))
            start += shard.rows
        if not part.shards:
            every.append(_Place(part, 0, part.rows, None))
    few = np.unique(np.linspace(0, len(every) - 1, min(len(every), _SHARDS)).round().astype(int))
    return [every[i] for i in few]


def _draw(
    places: Sequence[_Place], filters: Sequence[Curated], wanted: Sequence[Gallery]
) -> dict[str, list[_Drawn]]:
    """Return for each gallery the samples of the places whose uids hash lowest."""
    found: dict[str, list[_Drawn]] = {gallery.name: [] for gallery in wanted}
    uids: tuple[str, UidArray] = ("", np.empty(0, uid_arrays.UID))
    for number, place in enumerate(places):
        if uids[0] != place.part.name:
            uids = (place.part.name, _uids(place.part))
        mine = uids[1][place.start : place.stop]
        order = mixed(np.ascontiguousarray(mine["f1"]) ^ mixed(np.ascontiguousarray(mine["f0"])))
        keeps = {item.name: item.keeps(mine) for item in filters}
        for gallery in wanted:
            rows = np.flatnonzero(gallery.has(keeps))
            rows = rows[np.argsort(order[rows], kind="stable")[:_DRAWN]]
            names = uid_arrays.to_hex(mine[rows]).to_pylist()
            new = map(
                _Drawn, order[rows].tolist(), names, [number] * len(rows), (place.start + rows).tolist()
            )
            found[gallery.name] = heapq.nsmallest(_DRAWN, [*found[gallery.name], *new])
    return found


def _uids(part: Part) -> UidArray:
    found = [uid_arrays.from_hex(batch.column(0)) for batch in read_columns(part, ["uid"])]
    return np.concatenate([np.empty(0, uid_arrays.UID), *found])


def _by_place(samples: Iterator[_Drawn]) -> dict[int, list[_Drawn]]:
    """Return the samples of each place by their row, each once."""
    found: dict[int, set[_Drawn]] = {}
    for sample in samples:
        found.setdefault(sample.place, set()).add(sample)
    return {place: sorted(few, key=lambda sample: sample.row) for place, few in sorted(found.items())}


def _captions(places: Sequence[_Place], rows: Mapping[int, Sequence[_Drawn]]) -> dict[str, str]:
    """Return the captions by uid, as the metadata has them."""
    captions: dict[str, str] = {}
    for number, few in rows.items():
        part, start = places[number].part, 0
        if "text" not in open_parquet(part.metadata).schema_arrow.names:
            continue
        for batch in read_columns(part, ["text"]):
            mine = [sample for sample in few if start <= sample.row < start + batch.num_rows]
            texts = batch.column(0).take(pa.array([sample.row - start for sample in mine], pa.int64()))
            captions.update(zip((s.uid for s in mine), map(_clean, texts.to_pylist()), strict=True))
            start += batch.num_rows
    return captions


def _clean(text: str | None) -> str:
    """Return a caption in one line, without control characters, and not longer than people read."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return line if len(line) <= _CAPTION else f"{line[:_CAPTION].rstrip()}…"


def _images(places: Sequence[_Place], rows: Mapping[int, Sequence[_Drawn]]) -> dict[str, Thumbnail | str]:
    """Return by uid the image, small, or why there is none."""
    images: dict[str, Thumbnail | str] = {}
    for number, few in rows.items():
        shard = places[number].shard
        if shard is None:
            continue
        try:
            images.update(thumbnails(shard, {sample.uid for sample in few}))
        except PoolError as error:
            images.update(dict.fromkeys((sample.uid for sample in few), f"not readable: {error.what}"))
    return images


def _judge(
    places: Sequence[_Place], wanted: Sequence[Gallery], drawn: Mapping[str, Sequence[_Drawn]]
) -> dict[tuple[str, str], Verdict]:
    """Return the verdicts by filter and uid."""
    found: dict[tuple[str, str], Verdict] = {}
    for judge in {g.judge.name: g.judge for g in wanted if g.judge}.values():
        parts = {files.part.name: number for number, files in enumerate(judge.parts)}
        mine = (sample for g in wanted if g.judge is judge for sample in drawn[g.name])
        for place, few in _by_place(mine).items():
            part = parts[places[place].part.name]
            said = verdicts(judge, part, np.array([sample.row for sample in few]))
            found.update({(judge.name, s.uid): verdict for s, verdict in zip(few, said, strict=True)})
    return found


def _filled(
    gallery: Gallery,
    drawn: Sequence[_Drawn],
    captions: Mapping[str, str],
    images: Mapping[str, Thumbnail | str],
    judged: Mapping[tuple[str, str], Verdict],
) -> Gallery:
    """Show the first samples, those with an image before those without."""
    first = sorted(drawn, key=lambda sample: not isinstance(images.get(sample.uid), Thumbnail))[:SHOWN]
    name = gallery.judge.name if gallery.judge else ""
    samples = []
    for sample in first:
        image = images.get(sample.uid, "no image in the pool")
        shown = image if isinstance(image, Thumbnail) else None
        note = image if isinstance(image, str) else ""
        caption = captions.get(sample.uid, "")
        samples.append(Shown(sample.uid, caption, shown, note, judged.get((name, sample.uid))))
    return Gallery(gallery.name, gallery.kept_by, gallery.dropped_by, gallery.total, tuple(samples))
