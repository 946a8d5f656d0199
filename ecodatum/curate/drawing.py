"""Draws samples with their images from a pool's shards, without reading more shards than it needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ecodatum.curate.order_statistics import top_threshold
from ecodatum.curate.scores import as_numbers
from ecodatum.errors import ConfigError
from ecodatum.operators.images import decode
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import Part, Pool, Shard, read_columns
from ecodatum.pool.resharding import sample_uid
from ecodatum.pool.shards import Sample, read_shard
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import UidArray, UidIndex

#: A draw takes from this many shards where the pool has as many, so that no shard speaks for all.
_SHARDS: Final = 32

#: Tells which uids of a part may be drawn: sorted.
Eligible = Callable[[Part], UidArray]


@dataclass(frozen=True)
class Drawn:
    """A sample that was drawn: the part it is of, its uid (32 hex digits), and its members."""

    part: Part
    uid: str
    sample: Sample

    @property
    def caption(self) -> str:
        """The caption that open_clip would train on."""
        return self.sample.members["txt"].decode("utf-8", "replace")


def of_subset(path: Path) -> Eligible:
    """Allow the uids of a subset file."""
    uids = read_subset(path)
    return lambda part: uids


def of_top(pool: Pool, column: str, share: float) -> Eligible:
    """Allow the share of the pool that has the highest scores in a metadata column."""

    def chunks() -> Iterator[Any]:
        for part in pool.parts:
            for batch in read_columns(part, [column]):
                yield as_numbers(pa.chunked_array([batch.column(0)]))

    least = top_threshold(chunks, share)

    def eligible(part: Part) -> UidArray:
        found = [np.empty(0, uid_arrays.UID)]
        for batch in read_columns(part, ["uid", column]):
            high = as_numbers(pa.chunked_array([batch.column(1)])) >= least
            found.append(uid_arrays.from_hex(batch.column(0))[high])
        uids = np.concatenate(found)
        return uids[uid_arrays.order(uids)]

    return eligible


def draw_samples(pool: Pool, count: int, seed: int, eligible: Eligible | None = None) -> list[Drawn]:
    """Draw `count` samples that have a caption and an image that can be decoded, in a seeded order.

    Shards are read in a seeded order until there are enough. Raises ConfigError where the pool has not as
    many, and PoolError for a damaged shard.
    """
    rng = np.random.default_rng(seed)
    shards = [(part, shard) for part in pool.parts for shard in part.shards]
    if not shards:
        raise ConfigError("the pool has no shards, so there are no images to draw", where=pool.path)
    share = -(-count // min(len(shards), _SHARDS))
    drawn: dict[str, Drawn] = {}
    order = rng.permutation(len(shards))
    for most in (share, count):  # a second round, where the shards have too few each
        for place in order:
            if len(drawn) < count:
                room = min(most, count - len(drawn))
                part, shard = shards[place]
                drawn.update(_draw_from(part, shard, room, rng, eligible, set(drawn)))
    if len(drawn) < count:
        raise ConfigError(
            f"has {len(drawn):,} such samples, not {count:,}", where=pool.path, todo="lower --count"
        )
    found = list(drawn.values())
    return [found[i] for i in rng.permutation(count)]


def _draw_from(
    part: Part,
    shard: Shard,
    count: int,
    rng: np.random.Generator,
    eligible: Eligible | None,
    known: set[str],
) -> dict[str, Drawn]:
    """Draw from one shard, each sample as likely as any other; those that cannot be used are left out."""
    index = UidIndex(eligible(part)) if eligible else None
    reservoir: list[Drawn] = []
    seen = 0
    for sample in read_shard(shard.path):
        uid = sample_uid(sample, shard.path)
        if uid in known or not sample.members.get("txt", b"").strip():
            continue
        if index is not None:
            start, stop = index.runs(uid_arrays.from_hex(pa.array([uid])))
            if start[0] == stop[0]:
                continue
        place = len(reservoir) if seen < count else int(rng.integers(seen + 1))
        seen += 1
        if place == len(reservoir):
            reservoir.append(Drawn(part, uid, sample))
        elif place < count:
            reservoir[place] = Drawn(part, uid, sample)
    return {drawn.uid: drawn for drawn in reservoir if not isinstance(decode(drawn.sample.image), str)}
