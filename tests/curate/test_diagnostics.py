"""The diagnostics tell what makes a label model doubtful, and keep still when nothing does."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ecodatum.curate.diagnostics import BINS, Diagnostics, diagnose
from ecodatum.curate.histogram import Histogram
from ecodatum.curate.label_model import fit
from ecodatum.curate.recipe import LabellingFunction, LabelModelSettings
from tests.curate.test_label_model import as_patterns

ROWS = 4000


def independent(functions: int = 5, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return votes of functions that are right three times in four and abstain on a fifth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (ROWS, 1))
    votes = np.where(rng.random((ROWS, functions)) < 0.75, truth, 1 - truth)
    votes[rng.random((ROWS, functions)) < 0.2] = -1
    return votes


def functions(count: int, reject_only: tuple[int, ...] = ()) -> list[LabellingFunction]:
    condition = [{"score": "a.b", "at_most": 0.0}]
    return [
        LabellingFunction.model_validate(
            {"name": f"f{j}", "reject": condition}
            if j in reject_only
            else {"name": f"f{j}", "score": "a.b", "boundary": 0.0}
        )
        for j in range(count)
    ]


def diagnosed(votes: npt.NDArray[np.int64], reject_only: tuple[int, ...] = ()) -> Diagnostics:
    histogram = Histogram.of(as_patterns(votes))
    count = votes.shape[1]
    fitted = fit(histogram, count, LabelModelSettings())
    return diagnose(histogram, functions(count, reject_only), fitted)


def kinds(found: Diagnostics) -> set[tuple[Any, ...]]:
    return {(doubt.kind, *doubt.functions) for doubt in found.doubts}


def test_independent_functions_raise_no_doubt() -> None:
    assert kinds(diagnosed(independent())) == set()


def test_agreement_is_counted_where_both_vote() -> None:
    votes = np.array([[1, 1, -1], [1, 0, -1], [0, 0, -1], [-1, 1, 0]])
    found = diagnosed(votes)
    assert found.together.tolist() == [[3, 3, 0], [3, 4, 1], [0, 1, 1]]
    assert found.agreement[0, 1] == pytest.approx(2 / 3) and found.agreement[1, 2] == 0
    assert np.isnan(found.agreement[0, 2])
    assert found.document()["agreement"][0][2] is None


def test_distribution_counts_every_row_once() -> None:
    found = diagnosed(independent())
    assert len(found.distribution) == BINS and found.distribution.sum() == ROWS


def test_a_function_that_selects_everything_is_constant() -> None:
    votes = independent()
    votes[:, 1] = 1  # as H-CLIP and V-CLIP do with the released thresholds
    assert ("constant", "f1") in kinds(diagnosed(votes))


def test_a_function_that_could_give_both_votes_and_gives_one_is_constant() -> None:
    votes = independent()
    votes[:, 1] = np.where(votes[:, 1] == 1, -1, votes[:, 1])
    assert ("constant", "f1") in kinds(diagnosed(votes))
    assert kinds(diagnosed(votes, reject_only=(1,))) == set()


def test_a_function_without_votes_is_named() -> None:
    votes = independent()
    votes[:, 3] = -1
    assert kinds(diagnosed(votes)) == {("silent", "f3")}


def test_fewer_than_three_functions_with_votes() -> None:
    votes = independent(4)
    votes[:, 1:3] = -1
    assert {kind for kind, *_ in kinds(diagnosed(votes))} == {"silent", "too few"}


def test_a_function_that_is_the_wrong_way_round_is_contrary() -> None:
    votes = independent()
    votes[:, 2] = np.where(votes[:, 2] == -1, -1, 1 - votes[:, 2])
    assert kinds(diagnosed(votes)) == {("contrary", "f2")}


def test_near_copies_are_found_through_noise() -> None:
    votes = independent()
    votes[:, 4] = votes[:, 0]
    flipped = np.arange(0, ROWS, 50)
    votes[flipped, 4] = np.where(votes[flipped, 4] == -1, -1, 1 - votes[flipped, 4])
    assert kinds(diagnosed(votes)) == {("copies", "f0", "f4")}


def test_functions_that_only_reject_are_copies_on_the_same_rows_alone() -> None:
    votes = independent()
    rejecting = np.where(votes[:, :2] == 1, -1, votes[:, :2])
    votes[:, :2] = rejecting
    assert kinds(diagnosed(votes, reject_only=(0, 1))) == set()
    votes[:, 1] = votes[:, 0]
    assert ("copies", "f0", "f1") in kinds(diagnosed(votes, reject_only=(0, 1)))


def test_the_document_is_json() -> None:
    votes = independent()
    votes[:, 3] = -1
    document = json.loads(json.dumps(diagnosed(votes).document(), allow_nan=False))
    assert document["warnings"][0]["functions"] == ["f3"]
    assert "f3 never votes" in document["warnings"][0]["message"]
