"""The label model on a histogram is Snorkel's on the full matrix."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from snorkel.labeling.model import LabelModel

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.label_model import fit, predict_proba
from ecodatum.curate.recipe import LabelModelSettings
from ecodatum.curate.voting import unpack
from ecodatum.errors import ConfigError


def random_votes(
    rng: np.random.Generator, rows: int, functions: int, abstain: float
) -> npt.NDArray[np.int64]:
    """Return (rows, functions) votes of functions of varied accuracy, each abstaining about that often."""
    truth = rng.integers(0, 2, (rows, 1))
    right = rng.random((rows, functions)) < rng.uniform(0.4, 0.95, functions)
    votes = np.where(right, truth, 1 - truth)
    votes[rng.random((rows, functions)) < rng.uniform(0, 2 * abstain, functions)] = -1
    return votes


def as_patterns(votes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    powers = 3 ** np.arange(votes.shape[1], dtype=np.uint64)
    patterns: npt.NDArray[np.uint64] = (votes + 1).astype(np.uint64) @ powers
    return patterns


def snorkel(votes: npt.NDArray[np.int64], settings: LabelModelSettings) -> tuple[Any, Any]:
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(
        votes,
        n_epochs=settings.epochs,
        lr=settings.learning_rate,
        l2=settings.l2,
        seed=settings.seed,
        progress_bar=False,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(model.get_weights(), nan=1.0), model.predict_proba(votes)[:, 1]


def assert_equals_snorkel(votes: npt.NDArray[np.int64], settings: LabelModelSettings) -> None:
    weights, probabilities = snorkel(votes, settings)
    patterns = as_patterns(votes)
    histogram = Histogram.of(patterns)
    fitted = fit(histogram, votes.shape[1], settings)
    place = np.searchsorted(histogram.patterns, patterns)
    assert fitted.weights == pytest.approx(weights, abs=1e-6)
    assert fitted.probabilities[place] == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize("abstain", [0.0, 0.3, 0.6])
@pytest.mark.parametrize(
    ("rows", "functions"), [(1, 3), (30, 8), (500, 3), (3000, 5), (20000, 12), (2000, 20)]
)
def test_fit_equals_snorkel_on_random_matrices(rows: int, functions: int, abstain: float) -> None:
    rng = np.random.default_rng([rows, functions, int(10 * abstain)])
    votes = random_votes(rng, rows, functions, abstain)
    assert_equals_snorkel(votes, LabelModelSettings(seed=int(rng.integers(1000))))


def test_fit_equals_snorkel_with_other_settings() -> None:
    votes = random_votes(np.random.default_rng(0), 4000, 6, 0.2)
    assert_equals_snorkel(votes, LabelModelSettings(epochs=37, learning_rate=0.03, l2=0.1, seed=7))


def test_fit_equals_snorkel_without_votes_of_a_function_and_with_functions_of_one_vote() -> None:
    votes = random_votes(np.random.default_rng(1), 1000, 6, 0.2)
    votes[:, 2] = -1
    votes[:, 4] = np.where(votes[:, 4] == 1, -1, votes[:, 4])
    votes[:, 5] = 1
    assert_equals_snorkel(votes, LabelModelSettings())


def test_fit_equals_snorkel_where_nobody_votes() -> None:
    assert_equals_snorkel(np.full((10, 4), -1), LabelModelSettings())


def test_patterns_that_the_fit_has_not_seen_get_snorkels_probability() -> None:
    votes = random_votes(np.random.default_rng(2), 40, 5, 0.3)
    model = LabelModel(cardinality=2, verbose=False)
    settings = LabelModelSettings()
    model.fit(votes, n_epochs=200, lr=0.01, l2=0.001, seed=settings.seed, progress_bar=False)
    every = unpack(np.arange(3**5, dtype=np.uint64), 5)
    ours = predict_proba(fit(Histogram.of(as_patterns(votes)), 5, settings).mu, every)
    assert ours == pytest.approx(model.predict_proba(every.astype(np.int64))[:, 1], abs=1e-6)


def test_the_global_generators_are_left_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.RandomState(5).random_sample(3)
    fit(Histogram.of(np.arange(27, dtype=np.uint64)), 3, LabelModelSettings())
    assert np.array_equal(np.random.random_sample(3), expected)  # noqa: NPY002


def test_a_fit_that_diverges_says_what_to_change() -> None:
    histogram = Histogram.of(as_patterns(random_votes(np.random.default_rng(3), 500, 5, 0.1)))
    with pytest.raises(ConfigError, match=r"lower label_model\.learning_rate"):
        fit(histogram, 5, LabelModelSettings(learning_rate=50.0))


def test_two_functions_are_too_few() -> None:
    with pytest.raises(ConfigError, match="at least three"):
        fit(Histogram.of(np.arange(9, dtype=np.uint64)), 2, LabelModelSettings())
