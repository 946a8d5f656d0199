from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecodatum.curate.order_statistics import kth_largest, top_threshold

FLOATS = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda kind: hnp.arrays(kind, st.integers(1, 60), elements=st.floats(width=32, allow_nan=True))
)


@given(FLOATS, st.integers(0, 70), st.integers(1, 5))
def test_the_kth_largest_is_that_of_the_sorted_values(values: np.ndarray, index: int, chunks: int) -> None:
    wanted = np.sort(values[~np.isnan(values)])[::-1]
    found = kth_largest(lambda: np.array_split(values, chunks), index)
    assert found == (float(wanted[index]) if index < len(wanted) else None)


@given(FLOATS, st.floats(0.01, 1))
def test_a_share_is_cut_where_datacomp_cuts_it(values: np.ndarray, share: float) -> None:
    n = int(len(values) * share)
    downwards = -np.sort(-values)  # NaN last
    threshold = top_threshold(lambda: [values], share)
    if n < len(values) and not np.isnan(downwards[n]):
        assert threshold == downwards[n]
    else:
        assert threshold == -np.inf


def test_values_that_differ_in_the_last_bit_are_told_apart() -> None:
    low = np.float32(0.3)
    values = np.array([low, np.nextafter(low, np.float32(1))], np.float32)
    assert kth_largest(lambda: [values], 0) == float(values[1])
    assert kth_largest(lambda: [values], 1) == float(values[0])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_memory_does_not_grow_with_the_column(kind: type) -> None:
    rng = np.random.default_rng(0)
    whole: list[np.ndarray] = [rng.normal(size=1000).astype(kind) for _ in range(20)]

    def chunks() -> Iterator[np.ndarray]:
        yield from whole

    everything = np.sort(np.concatenate(whole))[::-1]
    assert [kth_largest(chunks, k) for k in (0, 777, 19_999)] == everything[[0, 777, 19_999]].tolist()
