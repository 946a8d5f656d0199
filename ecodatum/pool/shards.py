"""Shards: webdataset tars as img2dataset writes them, read and written as streams."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ecodatum.errors import PoolError

#: Extensions under which a sample's image may be found, as open_clip's trainer looks for them.
IMAGE_EXTENSIONS: Final = ("jpg", "png", "jpeg", "webp")

#: Bytes a read: each read may wait for the threads that decode what was read before.
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a shard: its key, and its members' bytes by extension, in the tar's order."""

    key: str
    members: dict[str, bytes]

    @property
    def image(self) -> bytes | None:
        """The encoded image, or None when the sample has none."""
        for extension in IMAGE_EXTENSIONS:
            if extension in self.members:
                return self.members[extension]
        return None


def read_shard(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar in its order, a sample at a time.

    Consecutive members with the same stem form a sample. Raises PoolError, naming the file and the
    offset, when the tar is damaged or ends early.
    """
    try:
        with path.open("rb", _READ_BYTES) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            yield from _group(tar, path)
            _require_end(path, tar.offset)
    except FileNotFoundError:
        raise PoolError("no such shard", where=path) from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise PoolError(f"damaged shard: {error}", where=path, todo="fetch this shard again") from error


def _group(tar: tarfile.TarFile, path: Path) -> Iterator[Sample]:
    key: str | None = None
    members: dict[str, bytes] = {}
    for info in tar:
        if not info.isfile():
            continue
        stem, dot, extension = info.name.rpartition("/")[2].partition(".")
        prefix = info.name[: len(info.name) - len(extension) - len(dot)]
        if not stem or not dot:
            continue
        if prefix != key or extension.lower() in members:
            if key is not None:
                yield Sample(key, members)
            key, members = prefix, {}
        stream = tar.extractfile(info)
        data = stream.read() if stream else b""
        if len(data) != info.size:
            raise PoolError(
                f"truncated shard: {info.name}, at offset {info.offset_data},"
                f" has {len(data)} of {info.size} bytes",
                where=path,
                todo="fetch this shard again",
            )
        members[extension.lower()] = data
    if key is not None:
        yield Sample(key, members)


def _require_end(path: Path, offset: int) -> None:
    """Tell a tar that ends in its two zero blocks from one that was cut, or whose next header is damaged."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 1024))
        if size < 1024 or file.read() != bytes(1024):
            raise PoolError(
                f"truncated shard: no end-of-archive mark at offset {size}",
                where=path,
                todo="fetch this shard again",
            )
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise PoolError(
                f"damaged shard: no header at offset {offset}", where=path, todo="fetch this shard again"
            )


class ShardWriter:
    """Writes samples to one tar, with the same header for the same input, whoever runs it and when."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._size = file, 0
        self.samples = 0

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append the members, in their order, as `<key>.<extension>`."""
        for extension, data in members.items():
            padding = bytes(-len(data) % tarfile.BLOCKSIZE)
            self.write_blocks(member_header(f"{key}.{extension}", len(data)) + data + padding)
        self.samples += 1

    def write_blocks(self, blocks: bytes | memoryview) -> None:
        """Append whole members: headers and padded bytes."""
        self._file.write(blocks)
        self._size += len(blocks)

    def close(self) -> None:
        """Write the end-of-archive mark, and fill the last record."""
        end = 2 * tarfile.BLOCKSIZE
        self._file.write(bytes(end + -(self._size + end) % tarfile.RECORDSIZE))


def member_header(name: str, size: int) -> bytes:
    """Return the header of a member, 512 bytes: read-only, without a time, owned as webdataset has it."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    info.uname, info.gname = "bigdata", "bigdata"
    return info.tobuf(tarfile.USTAR_FORMAT)
