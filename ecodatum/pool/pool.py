"""Pools: finds the parts of a folder in CommonPool's layout, and reads metadata columns as a stream."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.errors import PoolError
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pool.location import is_remote

_READERS = 16


@dataclass(frozen=True)
class Shard:
    """One tar of a part: `rows` metadata rows belong to it, `samples` of them were downloaded."""

    path: Path
    rows: int
    samples: int


@dataclass(frozen=True)
class Part:
    """One metadata parquet with the shards that hold its samples."""

    name: str
    metadata: Path
    rows: int
    fingerprint: str
    shards: tuple[Shard, ...]

    @property
    def embeddings(self) -> Path:
        """The npz beside the parquet: `b32_img`, `b32_txt`, `l14_img`, `l14_txt`."""
        return self.metadata.with_suffix(".npz")

    @cached_property
    def embeddings_fingerprint(self) -> str:
        """A hash over the content of the embeddings; raises PoolError where there are none."""
        if not self.embeddings.is_file():
            raise PoolError("the part has no embeddings", where=self.embeddings)
        return file_fingerprint(self.embeddings)

    @cached_property
    def shards_fingerprint(self) -> str:
        """A hash over the content of the part's shards."""
        with ThreadPoolExecutor(_READERS) as threads:
            return fingerprint(list(threads.map(file_fingerprint, [shard.path for shard in self.shards])))


@dataclass(frozen=True)
class Pool:
    """A pool's parts in the order of their files' names."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """The number of metadata rows, those without an image included."""
        return sum(part.rows for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """A hash over the content of the metadata."""
        return fingerprint([part.fingerprint for part in self.parts])


def open_pool(path: Path) -> Pool:
    """Index a pool: list its parts, count their rows and assign the shards to them.

    img2dataset walks the metadata files one after another and starts a new shard at each, so shards are
    dealt out by their row counts. Raises PoolError when the folder is missing, a parquet cannot be read, or
    the shards do not add up to the parts.
    """
    path = path.expanduser().resolve()
    files = metadata_files(path)
    with ThreadPoolExecutor(_READERS) as threads:
        rows = list(threads.map(row_count, files))
        prints = list(threads.map(file_fingerprint, files))
        shards = list(threads.map(open_shard, shard_files(path)))
    dealt = deal_shards(shards, files, rows)
    return Pool(
        path,
        tuple(
            Part(part_name(file, path), file, n, mark, tuple(own))
            for file, n, mark, own in zip(files, rows, prints, dealt, strict=True)
        ),
    )


def metadata_files(pool: Path) -> list[Path]:
    """List the metadata files of a pool in the order of its parts; raises PoolError when there are none."""
    folder = pool / "metadata"
    if not folder.is_dir():
        raise PoolError(
            "no pool here: there is no folder metadata/", where=pool, todo="a pool has metadata/ and shards/"
        )
    files = sorted([*folder.glob("*.parquet"), *folder.glob("part_*/*.parquet")])
    if not files:
        raise PoolError("no metadata parquet in this pool", where=folder)
    return files


def shard_files(pool: Path) -> list[Path]:
    """List the shards of a pool in the order of their numbers."""
    return sorted((pool / "shards").glob("*.tar"))


def read_columns(part: Part, columns: Sequence[str], batch_rows: int = 65536) -> Iterator[pa.RecordBatch]:
    """Yield the named metadata columns of a part, at most `batch_rows` rows at a time, in file order.

    Raises PoolError when a column is missing or the file cannot be read.
    """
    file = open_parquet(part.metadata)
    missing = [column for column in columns if column not in file.schema_arrow.names]
    if missing:
        raise PoolError(
            f"metadata has no column {', '.join(missing)}",
            where=part.metadata,
            todo=f"it has: {', '.join(file.schema_arrow.names)}",
        )
    try:
        yield from file.iter_batches(batch_rows, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"damaged parquet: {error}", where=part.metadata) from error


def part_name(file: Path, pool: Path) -> str:
    """Return a name that no other part has: files of the same name may lie in several `part_*` folders."""
    return "-".join(file.relative_to(pool / "metadata").with_suffix("").parts)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a metadata file; raises PoolError when it cannot be read."""
    try:
        return pq.ParquetFile(path.open("rb") if is_remote(path) else path)
    except (pa.ArrowException, OSError) as error:
        raise PoolError(
            f"cannot be read as parquet: {error}", where=path, todo="fetch this metadata file again"
        ) from error


def row_count(path: Path) -> int:
    """Return the rows of a metadata file; raises PoolError when it cannot be read."""
    return int(open_parquet(path).metadata.num_rows)


def open_shard(path: Path) -> Shard:
    """Read a shard's counts from the stats file that img2dataset writes beside it; raises PoolError."""
    stats_path = path.with_name(f"{path.stem}_stats.json")
    try:
        stats = json.loads(stats_path.read_text())
        return Shard(path, int(stats["count"]), int(stats["successes"]))
    except FileNotFoundError:
        raise PoolError("the shard has no stats file beside it", where=stats_path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise PoolError(f"unusable stats file: {error!r}", where=stats_path) from error


def deal_shards(shards: list[Shard], files: list[Path], rows: list[int]) -> list[list[Shard]]:
    """Give each part the shards that make up its rows; a pool without shards is fine.

    A part's shards follow one another. Which part comes next is told by the first uid that the next
    shard's own list of rows has; without such a list, by the order of the metadata files' names. Raises
    PoolError when they don't add up.
    """
    if not shards:
        return [[] for _ in files]
    dealt: dict[Path, list[Shard]] = {}
    firsts = {_first_uid(file): file for file in files}
    sizes = dict(zip(files, rows, strict=True))
    waiting = list(reversed(shards))
    while waiting and len(dealt) < len(files):
        file = _next_part(waiting[-1], firsts, files, dealt)
        dealt[file] = _take(waiting, file, sizes[file])
    if waiting:
        raise PoolError("a shard too many: all metadata rows are accounted for", where=waiting[-1].path)
    return [dealt[file] if file in dealt else _take([], file, sizes[file]) for file in files]


def _next_part(
    shard: Shard, firsts: dict[str | None, Path], files: list[Path], dealt: dict[Path, list[Shard]]
) -> Path:
    rows = shard.path.with_suffix(".parquet")
    first = _first_uid(rows) if rows.is_file() else None
    file = firsts.get(first) if first is not None else None
    if file is None or file in dealt:
        file = next(file for file in files if file not in dealt)
    return file


def _take(waiting: list[Shard], file: Path, wanted: int) -> list[Shard]:
    """Take from the end of `waiting` the shards that make up a part's rows."""
    own: list[Shard] = []
    while waiting and sum(shard.rows for shard in own) < wanted:
        own.append(waiting.pop())
    found = sum(shard.rows for shard in own)
    if found != wanted:
        last = own[-1].path.name if own else "none left"
        raise PoolError(
            f"{wanted} rows, but its shards (up to {last}) make {found}",
            where=file,
            todo="every shard must belong to one metadata file, and a file's shards follow one another",
        )
    return own


def _first_uid(path: Path) -> str | None:
    """Return the first uid of a metadata file or of a shard's list of rows; None when it has none."""
    file = open_parquet(path)
    if "uid" not in file.schema_arrow.names or file.metadata.num_rows == 0:
        return None
    try:
        batch = next(file.iter_batches(1, columns=["uid"]))
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"damaged parquet: {error}", where=path) from error
    return str(batch.column(0)[0].as_py())
