"""Grouping by Hamming distance equals comparing all pairs, whatever the hashes are like."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse.csgraph import connected_components

from ecodatum.curate.near_duplicates import group

Hashes = npt.NDArray[np.uint64]

_WORDS = st.integers(0, 2**64 - 1)


def by_all_pairs(hashes: Hashes, within: int) -> npt.NDArray[np.int64]:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= within
    labels: npt.NDArray[np.int64] = connected_components(near, directed=False)[1]
    return labels


def firsts(groups: npt.NDArray[np.int64]) -> list[int]:
    """Name each group by its first row, so that two numberings of the same groups are equal."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return list(first[place])


def with_copies(chance: np.random.Generator, count: int, flips: int) -> Hashes:
    """Random hashes, and copies of them with up to `flips` bits flipped, in random order."""
    seeds = chance.integers(0, 2**64, max(1, count // 4), np.uint64)
    hashes = seeds[chance.integers(0, len(seeds), count)]
    for _ in range(flips):
        hashes = hashes ^ (np.uint64(1) << chance.integers(0, 64, count).astype(np.uint64))
    return hashes


@settings(deadline=None)
@given(arrays(np.uint64, st.integers(1, 60), elements=_WORDS), st.integers(0, 8))
def test_any_hashes(hashes: Hashes, within: int) -> None:
    assert firsts(group(hashes, within)) == firsts(by_all_pairs(hashes, within))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(0, 8), st.integers(1, 64))
def test_copies_with_flipped_bits(seed: int, flips: int, within: int, bits: int) -> None:
    chance = np.random.default_rng(seed)
    hashes = with_copies(chance, 700, flips) & np.uint64(2**bits - 1)  # few bits: long runs, long chains
    assert firsts(group(hashes, within)) == firsts(by_all_pairs(hashes, within))


def test_a_long_run_of_equal_blocks_is_split_further() -> None:
    chance = np.random.default_rng(1)
    low = chance.integers(0, 2**26, 6000, np.uint64)  # three blocks of five are the same for all
    hashes = np.concatenate([low, chance.integers(0, 2**64, 2000, np.uint64)])
    assert firsts(group(hashes, 4)) == firsts(by_all_pairs(hashes, 4))


def test_a_chain_is_one_group() -> None:
    chain = np.array([(1 << n) - 1 for n in range(0, 65, 4)], np.uint64)
    assert set(group(chain, 4)) == {0}
    assert len(set(group(chain, 3))) == len(chain)


def test_the_same_hash_a_million_times_is_one_group() -> None:
    hashes = np.zeros(1_000_000, np.uint64)
    hashes[7] = 0b11111
    groups = group(hashes, 4)
    assert (
        groups[0] != groups[7] and len(set(groups[:100])) == 2 and (np.delete(groups, 7) == groups[0]).all()
    )


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert len(group(np.zeros(count, np.uint64), 4)) == count


def test_the_order_does_not_matter() -> None:
    chance = np.random.default_rng(2)
    hashes = with_copies(chance, 3000, 3)
    order = chance.permutation(len(hashes))
    groups = group(hashes, 4)
    assert firsts(group(hashes[order], 4)) == firsts(groups[order])
