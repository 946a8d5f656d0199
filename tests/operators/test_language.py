from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.errors import AssetError
from ecodatum.operators.language import Language, LanguageParameters
from tests.operators.tiny_samples import batch


def language(captions: list[str | None], **parameters: Any) -> Any:
    return Language(LanguageParameters(**parameters)).score(batch(text=captions))


def test_languages_are_told_apart() -> None:
    found = language(
        ["a photo of a dog in the park", "ein Foto von einem Hund im Park", "公園にいる犬の写真"]
    )
    assert found.values.column("lang").to_pylist() == ["en", "de", "ja"]


def test_a_line_feed_counts_as_a_space() -> None:
    broken, plain = language(["a dog\nin the park", "a dog in the park"]).values.to_pylist()
    assert broken == plain


def test_capitals_count_unless_they_are_lowered() -> None:
    shouted = "EIN HUND IM PARK UND EINE KATZE"
    as_it_is, lowered = language([shouted, shouted.lower()]).values.to_pylist()
    assert as_it_is != lowered
    assert language([shouted], lowercase=True).values.to_pylist() == [lowered]


def test_a_missing_caption_has_no_language() -> None:
    scores = language(["a dog", None])
    assert scores.values.column("lang").null_count == scores.values.column("lang_score").null_count == 1
    assert [(fault.rows.tolist(), fault.reason) for fault in scores.faults] == [([1], "no caption")]


OPERATOR = Language(LanguageParameters())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=20))
def test_no_caption_crashes_or_leaves_the_range(captions: list[str]) -> None:
    values = OPERATOR.score(batch(text=captions)).values
    score = OPERATOR.columns[1]
    assert score.low is not None
    assert score.high is not None
    for row in values.to_pylist():
        assert row["lang"]
        assert score.low <= row["lang_score"] <= score.high


def test_the_full_model_is_looked_for_among_the_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match=rf"assets fetch lid\.176\.bin\n  looked in {tmp_path}"):
        language(["a"], model="lid.176.bin")
    (tmp_path / "lid.176.bin").write_bytes(b"not a model")
    with pytest.raises(AssetError, match="not the file that it should be"):
        language(["a"], model="lid.176.bin")
    monkeypatch.setenv("ECODATUM_ASSET_LID_176_BIN", str(tmp_path / "lid.176.bin"))
    with pytest.raises(AssetError, match="not a fastText model"):
        language(["a"], model="lid.176.bin")
