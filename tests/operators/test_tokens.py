import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.operators.operator import Parameters
from ecodatum.operators.tokens import Tokens
from tests.operators.tiny_samples import batch

TEXT = st.text(st.sampled_from("aé日🎉 \t\n\r\x0b\x0c\x00\x1c\x85\xa0\u2028"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | TEXT, max_size=30))
def test_tokens_are_runs_between_ascii_spaces_and_each_line_feed(captions: list[str | None]) -> None:
    found = Tokens(Parameters()).score(batch(text=pa.array(captions, pa.string()))).values.column(0)
    assert found.to_pylist() == [
        None if c is None else len(re.findall(r"[^ \t\n\r\v\f\0]+|\n", c)) for c in captions
    ]
