"""The exact hash of a caption is as good as its normalised text; SimHash is near for similar captions."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.errors import PoolError
from ecodatum.operators.caption_hash import CaptionHash, normalised
from ecodatum.operators.operator import Parameters
from tests.operators.tiny_samples import batch

_SMALL = st.text("ab \u00a0é", max_size=9)
_ANY = st.text(max_size=80)


def hashes(texts: list[Any]) -> tuple[list[Any], list[Any]]:
    values = CaptionHash(Parameters()).score(batch(text=pa.array(texts, pa.string()))).values
    return values.column("exact").to_pylist(), values.column("simhash").to_pylist()


@settings(deadline=None)
@given(st.lists(_SMALL | _ANY, max_size=60))
def test_the_exact_hash_is_the_same_where_the_normalised_text_is(texts: list[str]) -> None:
    plain = normalised(pa.array(texts, pa.large_string())).to_pylist()
    exact, _ = hashes(texts)
    assert len(set(exact)) == len(set(plain)) == len(set(zip(exact, plain, strict=True)))


@settings(deadline=None)
@given(st.lists(_ANY | st.none(), max_size=30), st.randoms())
def test_a_hash_depends_on_its_caption_alone(texts: list[Any], chance: Any) -> None:
    found = dict(zip(texts, zip(*hashes(texts), strict=True), strict=True)) if texts else {}
    shuffled = list(found)
    chance.shuffle(shuffled)
    if shuffled:
        assert dict(zip(shuffled, zip(*hashes(shuffled), strict=True), strict=True)) == found


def test_stay_what_they_are() -> None:
    """Hashes are stored and compared over years and machines."""
    exact, simhash = hashes(["A red dog", "a  red\tDOG", "", None])
    assert exact == [2815524093873144658, 2815524093873144658, 0, None]
    assert simhash == [14069368518680707374, 14069368518680707374, 0, None]


def test_simhash_is_the_majority_of_the_shingles_bits() -> None:
    text = "thequickbrownfox"
    shingles = {start: hashes([text[start : start + 6]])[1][0] for start in range(len(text) - 5)}
    # A text of one shingle has that shingle's hash, so the longer one's is their majority, bit by bit.
    bits = np.array([[(value >> bit) & 1 for bit in range(64)] for value in shingles.values()])
    majority = sum(1 << bit for bit in np.flatnonzero(2 * bits.sum(axis=0) > len(bits)).tolist())
    assert hashes([text])[1] == [majority]


def test_similar_captions_are_near() -> None:
    text = "a photo of a red dog that plays with a ball in the garden of our house"
    _, (one, other, third) = hashes([text, f"{text}!", "stock illustration of clouds over the mountains"])
    assert (one ^ other).bit_count() <= 6 < 16 < (one ^ third).bit_count()


def test_a_very_long_caption_does_not_overflow() -> None:
    _, (many, more) = hashes(["abcdefgh" * 9000, "abcdefgh" * 9001])
    assert many == more


def test_a_missing_caption_is_told() -> None:
    scores = CaptionHash(Parameters()).score(batch(text=pa.array(["a", None])))
    assert [(list(fault.rows), fault.reason) for fault in scores.faults] == [([1], "no caption")]


def test_numbers_are_no_captions() -> None:
    with pytest.raises(PoolError, match="not text"):
        CaptionHash(Parameters()).score(batch(text=[1, 2]))
