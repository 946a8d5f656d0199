import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.errors import PoolError
from ecodatum.pool import uids as uid_arrays

HEX = st.lists(st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}"), max_size=50)


@settings(deadline=None)
@given(HEX)
def test_hex_round_trips(hexes: list[str]) -> None:
    assert uid_arrays.to_hex(uid_arrays.from_hex(pa.array(hexes, pa.string()))).to_pylist() == hexes


@settings(deadline=None)
@given(HEX)
def test_order_is_the_order_of_the_hex_strings(hexes: list[str]) -> None:
    uids = uid_arrays.from_hex(pa.array(hexes, pa.string()))
    ordered = uids[uid_arrays.order(uids)]
    assert uid_arrays.to_hex(ordered).to_pylist() == sorted(hexes)
    assert uid_arrays.in_order(ordered)


@settings(deadline=None)
@given(HEX, HEX)
def test_runs_count_occurrences(have: list[str], wanted: list[str]) -> None:
    wanted = wanted + have[:3]
    index = uid_arrays.UidIndex(uid_arrays.from_hex(pa.array(sorted(have), pa.string())))
    start, stop = index.runs(uid_arrays.from_hex(pa.array(wanted, pa.string())))
    assert (stop - start).tolist() == [have.count(uid) for uid in wanted]


def test_slices_of_columns_are_read_from_their_offset() -> None:
    hexes = [f"{n:032x}" for n in range(10)]
    sliced = pa.chunked_array([pa.array(hexes[:4]), pa.array(hexes[4:])]).slice(3, 4)
    assert uid_arrays.from_hex(sliced)["f1"].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("bad", ["0" * 31, "0" * 33, "g" * 32, "", None])
def test_what_is_no_uid_is_refused(bad: str | None) -> None:
    with pytest.raises(PoolError, match="32 hex digits"):
        uid_arrays.from_hex(pa.array(["0" * 32, bad], pa.string()))


def test_trailing_zero_bytes_count() -> None:
    uids = uid_arrays.from_words(np.array([1, 1], np.uint64), np.array([0, 1 << 8], np.uint64))
    start, stop = uid_arrays.UidIndex(uids).runs(uids)
    assert (stop - start).tolist() == [1, 1]


@settings(deadline=None)
@given(HEX, HEX, st.integers(1, 5))
def test_a_long_array_is_searched_by_every_kth_of_it(have: list[str], wanted: list[str], coarse: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uid_arrays, "_COARSE", coarse)
        same_high = [uid[:16] + "0" * 16 for uid in have[:5]]
        have, wanted = sorted(have + same_high + have[:7]), wanted + have[:9]
        index = uid_arrays.UidIndex(uid_arrays.from_hex(pa.array(have, pa.string())))
        start, stop = index.runs(uid_arrays.from_hex(pa.array(wanted, pa.string())))
    assert [have[a:b] for a, b in zip(start, stop, strict=True)] == [[u] * have.count(u) for u in wanted]
