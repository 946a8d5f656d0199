import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.errors import PoolError
from ecodatum.operators.caption import Caption
from ecodatum.operators.operator import Parameters
from tests.operators.tiny_samples import batch

CAPTION = Caption(Parameters())

#: Letters, every kind of white space, what looks like it and is none, and anything else.
TEXT = st.text(
    st.one_of(
        st.sampled_from("aé日🎉 \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"),
        st.sampled_from("\u200b\u180e\ufeff\u2800\x00"),
        st.characters(exclude_categories=["Cs"]),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | TEXT, max_size=30))
def test_counts_are_those_of_python(captions: list[str | None]) -> None:
    values = CAPTION.score(batch(text=pa.array(captions, pa.string()))).values
    assert values.column("characters").to_pylist() == [None if c is None else len(c) for c in captions]
    assert values.column("words").to_pylist() == [None if c is None else len(c.split()) for c in captions]


def test_every_code_point_separates_words_as_in_python() -> None:
    captions = [f"a{chr(code)}b" for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    words = CAPTION.score(batch(text=captions)).values.column("words")
    assert words.to_pylist() == [len(caption.split()) for caption in captions]


def test_a_slice_of_a_column_is_counted_by_itself() -> None:
    values = CAPTION.score(batch(text=["one", "two words", "", "three more words"]).slice(1, 2)).values
    assert values.to_pylist() == [{"characters": 9, "words": 2}, {"characters": 0, "words": 0}]


def test_a_missing_caption_is_named_as_such() -> None:
    (fault,) = CAPTION.score(batch(text=["a", None, "b"])).faults
    assert (fault.rows.tolist(), fault.reason) == ([1], "no caption")


def test_a_caption_column_of_numbers_is_refused() -> None:
    with pytest.raises(PoolError, match="the metadata column text holds int64, not text"):
        CAPTION.score(batch(text=[1]))
