"""What stands in the label model's place: majority vote, random weights, all above a probability."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from snorkel.labeling.model import MajorityLabelVoter

from ecodatum.curate.combination import combine, majority_vote, random_weights
from ecodatum.curate.histogram import Histogram
from ecodatum.curate.knobs import Candidates, find_knobs
from ecodatum.curate.recipe import Recipe
from ecodatum.curate.samples import open_sample
from ecodatum.curate.voting import unpack
from ecodatum.errors import ConfigError
from tests.curate.planted import ROWS, planted_recipe, planted_scores


def _histogram(functions: int) -> Histogram:
    return Histogram.of(np.arange(3**functions, dtype=np.uint64))


@pytest.mark.parametrize("functions", [1, 2, 5])
def test_majority_vote_equals_snorkels(functions: int) -> None:
    histogram = _histogram(functions)
    votes = unpack(histogram.patterns, functions).astype(np.int64)
    theirs = MajorityLabelVoter(cardinality=2).predict_proba(votes)[:, 1]
    np.testing.assert_array_equal(majority_vote(histogram, functions).probabilities, theirs)


def test_random_weights_are_the_seeds_and_rank_between_all_reject_and_all_select() -> None:
    histogram = _histogram(4)
    first, again, other = (random_weights(histogram, 4, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert (first.weights != other.weights).all() and (first.weights >= 0).all()
    votes = unpack(histogram.patterns, 4)
    assert first.probabilities[(votes == 1).all(axis=1)] == pytest.approx(1)
    assert first.probabilities[(votes == 0).all(axis=1)] == pytest.approx(0)
    assert first.probabilities[(votes == -1).all(axis=1)] == pytest.approx(0.5)
    one = (votes[:, 1:] == -1).all(axis=1)  # each vote counts by its function's weight
    reject, _, select = first.probabilities[one][np.argsort(votes[one, 0])][[1, 0, 2]]
    assert select - reject == pytest.approx(first.weights[0] / first.weights.sum())


def test_a_recipe_says_what_combines_its_votes() -> None:
    histogram = _histogram(3)
    voted = combine(histogram, planted_recipe(combine="majority_vote"))
    drawn = combine(histogram, planted_recipe(combine="random_weights", label_model={"seed": 5}))
    assert set(voted.probabilities) == {0, 0.5, 1}
    np.testing.assert_array_equal(drawn.weights, random_weights(histogram, 3, 5).weights)
    with pytest.raises(ConfigError, match="no combination of votes"):
        combine(histogram, planted_recipe(combine="mean_score"))


def test_fewer_than_three_functions_are_for_other_combinations_than_a_label_model() -> None:
    functions = planted_recipe().model_dump(by_alias=True)["labelling_functions"][:1]
    with pytest.raises(ValidationError, match="combine: majority_vote"):
        planted_recipe(labelling_functions=functions)
    assert planted_recipe(labelling_functions=functions, combine="majority_vote").fewest_functions == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": {"top": 0.1, "count": 3}}, "one of top"),
        ({"keep": {"tie_break": "uid"}}, "one of top"),
        ({"keep": {"probability": 0.5}, "combine": "mean_score"}, "gives no probability"),
        ({"keep": {"top": 0.1, "tie_break": "chance"}}, "tie_break"),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        planted_recipe(**changes)


def test_ties_go_by_uid_where_nothing_else_is_named() -> None:
    recipe: Recipe = planted_recipe(keep={"top": 0.1})
    assert recipe.keep is not None and recipe.keep.tie_score is None
    assert set(recipe.scores()) == {"a.score", "b.score", "c.score"}


def test_a_search_refuses_what_it_cannot_measure(tmp_path: Path) -> None:
    sample = open_sample(planted_recipe(), planted_scores(tmp_path / "scores")[0], ROWS)
    for changes in ({"combine": "majority_vote"}, {"keep": {"probability": 0.5}}):
        with pytest.raises(ConfigError, match="combine by label_model"):
            find_knobs(planted_recipe(**changes), sample, Candidates())
