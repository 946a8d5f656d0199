"""The mean of normalised scores."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ecodatum.curate.mean_score import Moments, function_scores
from ecodatum.curate.recipe import LabellingFunction

COLUMNS = {
    "a.score": pa.chunked_array([pa.array([0.1, None, 0.3, 0.9], pa.float32())]),
    "a.lang": pa.chunked_array([pa.array(["en", "de", None, "en"])]),
}


def _function(**given: Any) -> LabellingFunction:
    return LabellingFunction.model_validate({"name": "f", **given})


@pytest.mark.parametrize(
    ("given", "sign"),
    [
        ({"score": "a.score", "boundary": 0.3}, 1),
        ({"reject": [{"score": "a.score", "at_most": 0.2}]}, 1),
        ({"reject": [{"score": "a.score", "above": 0.2}]}, -1),
        ({"reject_unless": [{"score": "a.score", "below": 0.2}]}, -1),
        (
            {
                "select": [{"score": "a.score", "above": 0.5}],
                "reject": [{"score": "a.score", "at_most": 0.2}],
            },
            1,
        ),
    ],
)
def test_a_function_of_one_score_gives_it_with_the_sign_of_its_good_side(
    given: dict[str, Any], sign: int
) -> None:
    found = function_scores(_function(**given), COLUMNS, 4)
    np.testing.assert_allclose(found, sign * np.array([0.1, np.nan, 0.3, 0.9], np.float32))


@pytest.mark.parametrize(
    ("given", "votes"),
    [
        ({"reject_unless": [{"score": "a.lang", "is": "en"}]}, [0, -1, 0, 0]),
        ({"select": [{"score": "a.score", "at_least": 0.2, "below": 0.5}]}, [0, 0, 1, 0]),
        (
            {"reject_unless": [{"score": "a.lang", "is": "en"}, {"score": "a.score", "above": 0.5}]},
            [-1, 0, 0, 0],
        ),
    ],
)
def test_any_other_function_gives_its_vote(given: dict[str, Any], votes: list[int]) -> None:
    assert function_scores(_function(**given), COLUMNS, 4).tolist() == votes


def test_moments_of_parts_are_those_of_the_whole_and_skip_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.normal(5, 3, 1000), rng.normal(1e6, 1, 1000), np.full(1000, 2.0)]
    columns[0][::7] = np.nan
    columns[1][3] = np.inf
    parts = [
        Moments.of([column[s] for column in columns]) for s in (slice(0, 9), slice(9, 9), slice(9, 1000))
    ]
    merged = Moments.merged(parts)
    z = [(c - np.mean(c[np.isfinite(c)])) / np.std(c[np.isfinite(c)]) for c in columns[:2]]
    expected = sum(np.where(np.isfinite(column), column, 0) for column in z) / 3  # the constant adds nothing
    np.testing.assert_allclose(merged.standardised(columns), expected, atol=1e-9)
