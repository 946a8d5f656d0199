"""Tar indexes: where the members of a shard lie, found for the whole tar at once."""

import errno
import io
import mmap
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ecodatum.errors import PoolError
from ecodatum.pool.location import is_remote
from ecodatum.pool.shards import ShardWriter, read_shard

#: Bytes of a tar's block: a header is one block, a member's bytes begin at the next and are padded.
BLOCK: Final = 512

Blocks = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# Fields of a header: POSIX.1-1988 (ustar).
_NAME, _SIZE, _SUM, _TYPE, _PREFIX = slice(0, 100), slice(124, 135), slice(148, 156), 156, 345

#: Linux' MADV_POPULATE_READ, which Python 3.11 has no name for.
_POPULATE_READ: Final = 22

_USTAR: Final = int.from_bytes(b"ustar", "little")


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a tar in memory: consecutive members with the same stem.

    blocks: (blocks, 512) uint8, the tar. header: (members,) the block of each member's header; its bytes
    follow. size: (members,) bytes. kind: (members,) which of the `kinds`, the extensions in lower case.
    first: (samples + 1,) the first member of each sample, and the number of members.
    """

    path: Path
    blocks: Blocks
    header: Ints
    size: Ints
    kind: Ints
    kinds: tuple[str, ...]
    first: Ints

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.first) - 1

    @cached_property
    def flat(self) -> memoryview:
        """The tar's bytes."""
        return self.blocks.reshape(-1).data

    @property
    def member_blocks(self) -> Ints:
        """The blocks that each member takes, its header included; (members,)."""
        return 1 + -(-self.size // BLOCK)

    def member(self, number: int) -> memoryview:
        """Return the bytes of a member."""
        start = (int(self.header[number]) + 1) * BLOCK
        return self.flat[start : start + int(self.size[number])]

    def members(self, sample: int) -> dict[str, bytes]:
        """Return the members of a sample by extension, in the tar's order."""
        few = range(int(self.first[sample]), int(self.first[sample + 1]))
        return {self.kinds[self.kind[number]]: bytes(self.member(number)) for number in few}

    def key(self, sample: int) -> str:
        """Return the name of a sample, without extension."""
        name = (
            bytes(self.blocks[self.header[self.first[sample]], _NAME])
            .split(b"\0")[0]
            .decode(errors="replace")
        )
        return name[: name.index(".", name.rfind("/") + 1)]


def index_shard(path: Path) -> ShardIndex:
    """Return the index of a shard, which is memory-mapped where it is on this machine.

    Raises PoolError, naming the file and where it is damaged, when it cannot be read, is damaged or ends
    early.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8) if is_remote(path) else _mapped(path)
    except FileNotFoundError:
        raise PoolError("no such shard", where=path) from None
    except OSError as error:
        raise PoolError(f"cannot be read: {error.strerror or error}", where=path) from error
    return _plain_index(path, data) or _rewritten_index(path)


def _mapped(path: Path) -> Blocks:
    """Map a file, and read all of it now: what cannot be read is an error here, and not a signal later."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return np.empty(0, np.uint8)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    try:
        mapped.madvise(_POPULATE_READ)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel before 5.14 reads it when it is used
            raise
    return np.frombuffer(mapped, np.uint8)


def _rewritten_index(path: Path) -> ShardIndex:
    """Return the index of any tar that can be read, written anew; the reader tells what is damaged."""
    buffer, samples = io.BytesIO(), 0
    writer = ShardWriter(buffer)
    for samples, sample in enumerate(read_shard(path), 1):
        writer.write(f"{samples}/{sample.key.rpartition('/')[2][:60]}", sample.members)
    writer.close()
    data = np.frombuffer(buffer.getbuffer(), np.uint8)
    none = np.empty(0, np.int64)
    empty = ShardIndex(path, data.reshape(-1, BLOCK), none, none, none, (), np.zeros(1, np.int64))
    index = _plain_index(path, data) if samples else empty
    if index is None:
        raise PoolError("names of members are too long", where=path)
    return index


def _plain_index(path: Path, data: Blocks) -> ShardIndex | None:
    """Return the index of a tar's bytes, (n,) uint8, or None if it is no plain and whole ustar archive.

    Plain is what webdataset's and img2dataset's writers make: regular files one after another, names of
    at most 100 bytes, checksums right, two empty blocks at the end.
    """
    if len(data) % BLOCK:
        return None
    blocks = data.reshape(-1, BLOCK)
    header = np.flatnonzero((blocks[:, 256:264].copy().view("<u8").ravel() >> 8 & 0xFFFFFFFFFF) == _USTAR)
    if len(header) == 0 or header[0] != 0:
        return None
    size = _octal(blocks[:, _SIZE][header])
    after = header + 1 + -(-size // BLOCK)
    if not np.array_equal(after[:-1], header[1:]):
        chain = _follow(header, after)
        header, after, size = header[chain], after[chain], size[chain]
    ended = len(data) >= (after[-1] + 2) * BLOCK and not blocks[after[-1] :][[0, 1, -2, -1]].any()
    heads = blocks[header]
    if not (ended and size.min() >= 0 and _plain(heads)):
        return None
    stem, extension, named = _split_names(heads[:, _NAME])
    kinds, kind = np.unique(extension, return_inverse=True)
    names = tuple(name.decode(errors="surrogateescape") for name in kinds.tolist())
    return ShardIndex(path, blocks, header[named], size[named], kind, names, _first_members(stem, kind))


def _follow(header: Ints, after: Ints) -> list[int]:
    """Return which headers follow one another from the first: others lie inside a member that is a tar."""
    at = dict(zip(header.tolist(), range(len(header)), strict=True))
    chain, here = [0], at.get(int(after[0]))
    while here is not None and here > chain[-1]:
        chain.append(here)
        here = at.get(int(after[here]))
    return chain


def _octal(digits: Blocks) -> Ints:
    """Return the numbers of (n, k) octal digits; what is no digit makes a number that fits nothing."""
    values = digits.astype(np.int64) - ord("0")
    number: Ints = values @ (8 ** np.arange(digits.shape[1] - 1, -1, -1))
    number[((values < 0) | (values > 7)).any(axis=1)] = -1
    return number


def _plain(heads: Blocks) -> bool:
    """Tell whether all headers are whole, and of regular files with short names."""
    field = heads[:, _SUM]
    sums = heads.sum(axis=1, dtype=np.uint32).astype(np.int64)
    sums += 8 * ord(" ") - field.sum(axis=1, dtype=np.int64)
    regular = (heads[:, _TYPE] == ord("0")) | (heads[:, _TYPE] == 0)
    return bool(np.all(regular & (heads[:, _PREFIX] == 0) & (_octal(field[:, :6]) == sums)))


def _split_names(names: Blocks) -> tuple[Blocks, npt.NDArray[np.bytes_], npt.NDArray[np.bool_]]:
    """Split members' names, (n, 100), at the first dot of their last part.

    Returns the stems with their folders, (width, k) uint8, and the extensions in lower case, (k,), of the
    members that have both; and which those are, (n,) bool.
    """
    width = max(1, int(np.flatnonzero(names.any(axis=0))[-1]) + 1)
    names = np.ascontiguousarray(names[:, :width]).T.copy()  # a row a position: numpy is fastest that way
    column = np.arange(width, dtype=np.int16)[:, None]
    length = np.where(names == 0, column, np.int16(width)).min(axis=0)
    slash = np.where(names == ord("/"), column, np.int16(-1)).max(axis=0)
    dot = np.where((names == ord(".")) & (column > slash), column, np.int16(width)).min(axis=0)
    named = (dot < width) & (dot > slash + 1)
    names, dot, length = names[:, named], dot[named], length[named]
    stem = np.where(column < dot, names, np.uint8(0))
    longest = max(1, int((length - dot - 1).max(initial=0)))
    place = dot + np.arange(1, longest + 1, dtype=np.int16)[:, None]
    letters = np.take_along_axis(names, np.minimum(place, width - 1).astype(np.intp), axis=0)
    letters = np.where(place < length, letters, np.uint8(0))
    letters += ((letters >= ord("A")) & (letters <= ord("Z"))).view(np.uint8) * np.uint8(32)
    return stem, np.ascontiguousarray(letters.T).view(f"S{longest}").ravel(), named


def _first_members(stem: Blocks, kind: Ints) -> Ints:
    """Return where samples begin, and the end: at another stem, or at an extension that it has already."""
    begins = np.ones(len(kind), bool)
    begins[1:] = (stem[:, 1:] != stem[:, :-1]).any(axis=0)
    pairs = np.sort(np.cumsum(begins) * (kind.max(initial=0) + 1) + kind)
    if (pairs[1:] == pairs[:-1]).any():
        _begin_at_repeats(begins, kind.tolist())
    return np.append(np.flatnonzero(begins), len(kind))


def _begin_at_repeats(begins: npt.NDArray[np.bool_], kind: list[int]) -> None:
    """Let a sample begin at each extension that the one before it has already; rare, so one by one."""
    seen: set[int] = set()
    for member, extension in enumerate(kind):
        if begins[member] or extension in seen:
            begins[member] = True
            seen = set()
        seen.add(extension)
