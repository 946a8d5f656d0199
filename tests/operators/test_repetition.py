import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.operators.repetition import Repetition, RepetitionParameters
from tests.operators.tiny_samples import batch


def ratios(captions: list[str | None], characters: int = 10, words: int = 10) -> list[dict[str, float]]:
    operator = Repetition(RepetitionParameters(characters=characters, words=words))
    found: list[dict[str, float]] = operator.score(
        batch(text=pa.array(captions, pa.string()))
    ).values.to_pylist()
    return found


def test_character_ratio_by_hand() -> None:
    # "ababab" has the 2-grams ab ×3, ba ×2: U = 2, k = min(1, 2) = 1, so 3 of 5.
    # "abcabcab": ab ×3, bc ×2, ca ×2: U = 3, k = 1, so 3 of 7.
    assert [row["character_ratio"] for row in ratios(["ababab", "abcabcab", "abcd", "a", ""], 2)] == [
        3 / 5,
        3 / 7,
        0,
        0,
        0,
    ]


def test_word_ratio_by_hand() -> None:
    # The pairs of "a dog a dog ran": (a dog) ×2, (dog a), (dog ran): 2 of 4.
    assert [row["word_ratio"] for row in ratios(["a dog a dog ran", "a dog ran", "dog"], 10, 2)] == [
        0.5,
        0,
        0,
    ]


def test_words_are_compared_in_lower_case_and_without_what_surrounds_them() -> None:
    assert ratios(['A "dog", a DOG! a\t(dog) ♥ 12 a\ndog…'], 10, 2)[0]["word_ratio"] == 1.0


def test_only_space_tab_and_line_feed_separate_words() -> None:
    assert ratios(["a\u2009dog a\u2009dog"], 10, 1)[0]["word_ratio"] == 1.0
    assert ratios(["a\u2009dog a dog"], 10, 1)[0]["word_ratio"] == 0.0


def test_captions_do_not_mix() -> None:
    alone = [ratios([caption], 3, 2)[0] for caption in ("spam spam spam", "spam", "egg egg egg")]
    assert ratios(["spam spam spam", "spam", "egg egg egg"], 3, 2) == alone


def test_a_missing_caption_has_no_ratio() -> None:
    assert ratios([None, "aa"], 1)[0] == {"character_ratio": None, "word_ratio": None}


def test_an_empty_batch_has_no_rows() -> None:
    assert ratios([]) == []


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab \n!é🎉", max_size=60) | st.text(max_size=20), max_size=8),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_ratios_follow_the_formulas(captions: list[str], characters: int, words: int) -> None:
    for caption, row in zip(captions, ratios(list(captions), characters, words), strict=True):
        grams = Counter(caption[i : i + characters] for i in range(len(caption) - characters + 1))
        again = sorted((count for count in grams.values() if count > 1), reverse=True)
        kept = again[: int(math.sqrt(len(grams)))]
        assert row["character_ratio"] == pytest.approx(sum(kept) / max(1, grams.total()), abs=1e-12)
        assert 0 <= row["word_ratio"] <= 1
