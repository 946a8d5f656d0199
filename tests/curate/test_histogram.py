"""The histogram of vote patterns: mergeable, and enough for Snorkel's LF summary."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snorkel.labeling import LFAnalysis

from ecodatum.curate.histogram import Histogram, lf_summary
from tests.curate.test_label_model import as_patterns, random_votes


@given(st.lists(st.lists(st.integers(0, 3**20) | st.just(2**63), max_size=30), max_size=6))
def test_merged_parts_equal_the_whole(parts: list[list[int]]) -> None:
    arrays = [np.array(part, np.uint64) for part in parts]
    whole = Histogram.of(np.concatenate([np.empty(0, np.uint64), *arrays]))
    merged = Histogram.merged(Histogram.of(array) for array in arrays)
    assert np.array_equal(merged.patterns, whole.patterns)
    assert np.array_equal(merged.counts, whole.counts)
    assert whole.total == sum(map(len, parts))


@given(st.lists(st.lists(st.integers(0, 80), max_size=9), min_size=3, max_size=3))
def test_merging_is_associative(parts: list[list[int]]) -> None:
    a, b, c = (Histogram.of(np.array(part, np.uint64)) for part in parts)
    left = Histogram.merged([Histogram.merged([a, b]), c])
    right = Histogram.merged([a, Histogram.merged([b, c])])
    assert np.array_equal(left.patterns, right.patterns) and np.array_equal(left.counts, right.counts)


@pytest.mark.parametrize(("rows", "functions", "abstain"), [(1, 1, 0), (400, 4, 0.5), (5000, 12, 0.4)])
def test_summary_equals_snorkels_on_random_matrices(rows: int, functions: int, abstain: float) -> None:
    votes: npt.NDArray[np.int64] = random_votes(np.random.default_rng(rows), rows, functions, abstain)
    theirs = LFAnalysis(votes).lf_summary()
    ours = lf_summary(Histogram.of(as_patterns(votes)), [str(j) for j in range(functions)])
    assert ours["polarity"].tolist() == theirs["Polarity"].tolist()
    for mine, name in (("coverage", "Coverage"), ("overlaps", "Overlaps"), ("conflicts", "Conflicts")):
        assert ours[mine].to_numpy() == pytest.approx(theirs[name].to_numpy(), abs=1e-12)
