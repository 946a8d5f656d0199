"""The shares of the clusters solve the paper's quadratic program."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ecodatum.curate.density import allot

_CLUSTERS = st.lists(st.tuples(st.integers(1, 500), st.floats(0, 2)), min_size=1, max_size=30)


@settings(deadline=None)
@given(_CLUSTERS, st.floats(0, 1), st.floats(0.01, 2))
def test_as_many_stay_as_wanted_and_no_more_than_there_are(
    clusters: list[tuple[int, float]], share: float, temperature: float
) -> None:
    sizes = np.array([size for size, _ in clusters])
    complexity = np.array([value for _, value in clusters])
    wanted = int(share * sizes.sum())
    kept = allot(sizes, complexity, wanted, temperature)
    assert kept.sum() == wanted
    assert (kept >= 0).all() and (kept <= sizes).all()


def test_it_solves_the_quadratic_program() -> None:
    chance = np.random.default_rng(0)
    sizes = chance.integers(20, 400, 12)
    complexity = chance.uniform(0, 0.5, 12)
    wanted, temperature = int(sizes.sum() * 0.4), 0.1
    shares = np.exp(complexity / temperature)
    target = wanted * shares / shares.sum()
    solved = minimize(
        lambda x: 0.5 * ((x - target) ** 2).sum(),
        np.full(12, wanted / 12),
        jac=lambda x: x - target,
        bounds=[(min(1, size - 1), size) for size in sizes],
        constraints={"type": "eq", "fun": lambda x: x.sum() - wanted, "jac": lambda x: np.ones(12)},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert allot(sizes, complexity, wanted, temperature) == pytest.approx(solved.x, abs=1)


def test_wide_clusters_that_lie_apart_keep_more() -> None:
    kept = allot(np.array([100, 100, 100]), np.array([0.1, 0.2, 0.3]), 90, 0.1)
    assert kept[0] < kept[1] < kept[2]


def test_fewer_than_one_a_cluster() -> None:
    assert allot(np.array([5, 5, 5]), np.array([0.1, 0.2, 0.3]), 2, 0.1).sum() == 2
