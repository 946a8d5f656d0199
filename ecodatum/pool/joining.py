"""Joins what was resharded part by part to one folder, as DataComp's resharder leaves it."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import ConfigError, PoolError
from ecodatum.pool.location import copy_file, remove_folder, write_whole
from ecodatum.pool.resharding import META, SHARD_FORMAT, STATS_FORMAT, Resharded, meta_fields

#: Where the parts lie, below the folder that they are joined to, and, once that began, to what.
PARTS: Final = ".parts"
_NOTE: Final = "fingerprint"
SAMPLES: Final = "sample_ids.npy"

_NONE: Final = Resharded(0, 0, 0)


@dataclass(frozen=True)
class ReshardedPart:
    """A part that was resharded to `folder`, and the counts of its reshard."""

    folder: Path
    done: Resharded


def is_joined(out: Path, fingerprint: str) -> bool:
    """Tell whether `out` holds this reshard already, whole.

    Raises ConfigError when it holds anything else, or a part of it.
    """
    other = ConfigError(
        "holds something else already", where=out, todo="choose a new folder, or remove this one"
    )
    try:
        meta = json.loads((out / META).read_text())
    except FileNotFoundError:
        meta = None
    except ValueError:
        raise other from None
    if meta is not None:
        if meta.get("fingerprint") != fingerprint:
            raise other
        _require_shards(out, int(meta["output_shard_count"]))
        return True
    joining = out / PARTS / _NOTE
    if joining.exists():
        if joining.read_text() != fingerprint:
            raise other
    elif out.exists() and any(path.name != PARTS for path in out.iterdir()):
        raise other
    return False


def join(
    parts: Sequence[ReshardedPart], out: Path, subset: Path, fields: dict[str, Any], fingerprint: str
) -> None:
    """Move the parts' shards to `out`, numbered through in the parts' order, and write `meta.json` last.

    subset: a copy of it is kept as `sample_ids.npy`. fields: what else `meta.json` tells. Interrupted,
    the same call goes on. Raises PoolError when a shard is missing.
    """
    write_whole(out / PARTS / _NOTE, fingerprint)
    number = 0
    for part in parts:
        for own in range(part.done.shards):
            for form in (STATS_FORMAT, SHARD_FORMAT):
                _move(part.folder / form.format(own), out / form.format(number))
            number += 1
    copy_file(subset, out / SAMPLES)
    done = total([part.done for part in parts])
    meta = {**fields, **meta_fields(done), "fingerprint": fingerprint}
    write_whole(out / META, json.dumps(meta, indent=1) + "\n")
    remove_folder(out / PARTS)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        source.rename(target)
    elif not target.exists():
        raise PoolError("a shard that was written is gone", where=source)


def _require_shards(out: Path, count: int) -> None:
    for number in range(count):
        shard = out / SHARD_FORMAT.format(number)
        if not shard.exists():
            raise PoolError(
                "is missing, though the reshard was finished",
                where=shard,
                todo="remove the folder, and reshard",
            )


def total(parts: Sequence[Resharded]) -> Resharded:
    """Add up the counts of parts."""
    return Resharded(*(sum(column) for column in zip(*map(astuple, [_NONE, *parts]), strict=True)))
