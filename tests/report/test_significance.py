"""The paired bootstrap over tasks and seeds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ecodatum.report.significance import Difference, paired_bootstrap


def noise(seed: int, *shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.random.default_rng(seed).normal(0, 0.02, shape)


def test_with_one_seed_it_is_scipys_percentile_bootstrap_of_the_mean_over_tasks() -> None:
    scores, baseline = noise(0, 1, 38) + 0.01, noise(1, 1, 38)
    ours = paired_bootstrap(scores, baseline)
    theirs = stats.bootstrap(
        ((scores - baseline)[0],),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours.value == pytest.approx((scores - baseline).mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=3e-4)
    assert (ours.tasks, ours.seeds) == (38, 1)


def test_a_seed_that_is_drawn_goes_with_every_task() -> None:
    """Two seeds, one better by 1 on all tasks: δ* is 0, ½ or 1 with probability ¼, ½, ¼."""
    scores = np.array([[0.0] * 38, [1.0] * 38])
    found = paired_bootstrap(scores, np.zeros_like(scores))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)


def test_a_task_that_is_drawn_goes_with_every_seed() -> None:
    few, many = np.tile([[0.0, 1.0]], (1, 1)), np.tile([[0.0, 1.0]], (5, 1))
    for scores in (few, many):
        found = paired_bootstrap(scores, np.zeros_like(scores))
        assert (found.low, found.high) == (0.0, 1.0)
        assert found.p == pytest.approx(0.5, abs=0.02)


def test_pairing_takes_out_what_both_share() -> None:
    """How hard the tasks and how lucky the seeds are is in both; one is better by 0.01 everywhere."""
    shared = noise(3, 1, 38) * 20 + noise(4, 3, 1)
    found = paired_bootstrap(shared + 0.01, shared)
    assert (found.value, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert found.p == pytest.approx(2 / 10_001)


def test_equal_filters_do_not_differ() -> None:
    scores = noise(5, 3, 38)
    assert paired_bootstrap(scores, scores) == Difference(0.0, 0.0, 0.0, 1.0, 38, 3)


def test_the_same_input_gives_the_same_output() -> None:
    scores, baseline = noise(6, 3, 38), noise(7, 3, 38)
    assert paired_bootstrap(scores, baseline) == paired_bootstrap(scores, baseline)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 10))
def test_exchanging_the_two_mirrors_the_interval(seed: int, seeds: int, tasks: int) -> None:
    scores, baseline = noise(seed, seeds, tasks), noise(seed + 1, seeds, tasks)
    there = paired_bootstrap(scores, baseline, resamples=200)
    back = paired_bootstrap(baseline, scores, resamples=200)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert back.p == there.p


def test_a_task_without_a_score_is_left_out_of_both() -> None:
    scores, baseline = noise(8, 3, 38), noise(9, 3, 38)
    whole = paired_bootstrap(np.delete(scores, 5, axis=1), np.delete(baseline, 5, axis=1))
    baseline[1, 5] = math.nan
    assert paired_bootstrap(scores, baseline) == whole
    assert whole.tasks == 37


@pytest.mark.parametrize(("seeds", "tasks"), [(0, 38), (3, 0), (3, 1)])
def test_nothing_is_claimed_from_nothing(seeds: int, tasks: int) -> None:
    found = paired_bootstrap(noise(10, seeds, tasks), np.zeros((seeds, tasks)))
    assert math.isnan(found.low) and math.isnan(found.p)
    assert math.isnan(found.value) == (seeds * tasks == 0)


def test_false_alarms_are_rare() -> None:
    """Of 200 pairs that differ by noise of every single result, about 5 % at most differ at p < 0.05."""
    random = np.random.default_rng(11)
    alarms = sum(
        paired_bootstrap(*random.normal(0, 0.02, (2, 3, 38)), resamples=1000).p < 0.05 for _ in range(200)
    )
    assert alarms <= 16
