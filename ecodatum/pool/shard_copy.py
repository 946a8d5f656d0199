"""Copies samples from an indexed shard to a new tar: whole blocks, under new headers."""

from typing import Final

import numpy as np

from ecodatum.errors import PoolError
from ecodatum.pool.shards import ShardWriter, member_header
from ecodatum.pool.tar_index import BLOCK, Blocks, Ints, ShardIndex
from ecodatum.pool.uids import UidArray, hex_digits

#: Blocks that are put together and written at a time: what stays in a core's cache.
_TOGETHER: Final = 1024


def copy_samples(index: ShardIndex, samples: Ints, uids: UidArray, copies: Ints, to: ShardWriter) -> None:
    """Append samples of a shard to a tar, keyed `<uid>-<copy>`, their members as and in the order they were.

    samples: (k,) which samples of the shard; uids: (k,) `u8,u8`; copies: (k,).
    """
    count = index.first[samples + 1] - index.first[samples]
    members = _ranges(index.first[samples], count)
    of = np.repeat(np.arange(len(samples)), count)
    blocks = index.member_blocks[members]
    source = _ranges(index.header[members], blocks)
    heads = _headers(index, members, hex_digits(uids)[of], copies[of])
    ends = np.cumsum(blocks)
    starts = ends - blocks
    buffer = np.empty((_TOGETHER, BLOCK), np.uint8)
    first = 0
    for start in range(0, len(source), _TOGETHER):
        few = source[start : start + _TOGETHER]
        tar = np.take(index.blocks, few, axis=0, out=buffer[: len(few)], mode="clip")
        last = int(np.searchsorted(starts, start + len(few)))
        tar[starts[first:last] - start] = heads[first:last]
        to.write_blocks(tar.reshape(-1).data)
        first = last
    to.samples += len(samples)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return start, start + 1, … of each range, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)


_BLANK: Final = np.frombuffer(member_header("", 0), np.uint8)
_SIZE, _SUM = slice(124, 135), slice(148, 154)
_SHIFTS: Final = np.arange(30, -1, -3)
#: The sum of a header whose name is empty, whose size has no digits, and whose sum is blanks.
_BLANK_SUM: Final = int(np.delete(_BLANK, np.r_[_SIZE, 148:156]).sum()) + 8 * ord(" ")


def _headers(index: ShardIndex, members: Ints, digits: Blocks, copies: Ints) -> Blocks:
    """Return the headers, (n, 512) uint8, of members `<digits>-<copy>.<extension>`."""
    endings, ending = np.unique(copies * len(index.kinds) + index.kind[members], return_inverse=True)
    texts = [f"-{e // len(index.kinds)}.{index.kinds[e % len(index.kinds)]}" for e in endings.tolist()]
    table = np.array([text.encode(errors="surrogateescape") for text in texts])
    letters = table.view(np.uint8).reshape(len(table), -1)
    if 32 + letters.shape[1] > 100:
        raise PoolError(f"the name of a member is too long: {max(texts, key=len)}", where=index.path)
    size = ((index.size[members][:, None] >> _SHIFTS & 7) + ord("0")).astype(np.uint8)
    sums = _BLANK_SUM + _sum(digits) + _sum(letters)[ending] + _sum(size)
    heads = np.empty((len(members), BLOCK), np.uint8)
    heads[:] = _BLANK
    heads[:, :32] = digits
    heads[:, 32 : 32 + letters.shape[1]] = letters[ending]
    heads[:, _SIZE] = size
    heads[:, _SUM] = (sums[:, None] >> _SHIFTS[-6:] & 7) + ord("0")
    return heads


def _sum(rows: Blocks) -> Ints:
    sums: Ints = rows.sum(axis=1, dtype=np.int64)
    return sums
