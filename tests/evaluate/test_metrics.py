"""Metrics on hand-made predictions, against scikit-learn where it has them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score

from ecodatum.evaluate import metrics

Labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(Labels)
def test_macro_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predicted, target = (np.array(values) for values in zip(*pairs, strict=True))
    plain = metrics.classification(predicted[:, None], predicted, target, 6)
    rare = metrics.rare_classes(predicted, target)
    assert plain["mean_per_class_recall"] == pytest.approx(balanced_accuracy_score(target, predicted))
    f1 = f1_score(target, predicted, average="macro", labels=np.unique(target), zero_division=0)
    assert rare["F1-macro_all"] == pytest.approx(f1, abs=1e-6)


def test_top_five_counts_only_from_five_classes_on() -> None:
    top = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    scores = metrics.classification(top, top[:, 0], np.array([0, 5]), 6)
    assert (scores["acc1"], scores["acc5"]) == (0.5, 0.5)
    assert metrics.classification(top[:, :1], top[:, 0], np.array([0, 1]), 4)["acc5"] is None


def test_an_empty_group_has_no_accuracy_and_is_not_the_worst() -> None:
    scores, worst = metrics.group_accuracy(
        "acc", np.array([True, False, True]), {"region": np.array([0, 0, 2])}
    )
    assert scores["acc_region:0"] == 0.5
    assert math.isnan(scores["acc_region:1"])
    assert scores["count_region:1"] == 0.0
    assert worst == 0.5


def test_two_fields_group_by_their_combinations() -> None:
    scores, _ = metrics.group_accuracy(
        "acc", np.array([True, False]), {"gender": np.array([0, 1]), "race": np.array([1, 0])}
    )
    counts = {name: value for name, value in scores.items() if name.startswith("count")}
    assert counts == {
        "count_race:0_gender:0": 0,
        "count_race:0_gender:1": 1,
        "count_race:1_gender:0": 1,
        "count_race:1_gender:1": 0,
    }


def test_retrieval_counts_a_query_once_however_many_matches_it_has() -> None:
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 0, 2, 1]]
    scores = metrics.retrieval(images, texts, np.array([0, 0, 1, 2]))
    assert scores["text_retrieval_recall@1"] == pytest.approx(1 / 3)
    assert scores["image_retrieval_recall@1"] == 0.5
    assert scores["mean_recall@1"] == pytest.approx(0.5 * (1 / 3 + 0.5))
    assert scores["image_retrieval_recall@5"] == 1.0


def test_retrieval_in_blocks_is_retrieval_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(n, 8, generator=generator) for n in (20, 40))
    owners = np.arange(40) // 2
    whole = metrics.retrieval(images, texts, owners)
    monkeypatch.setattr(metrics, "_SCORES_AT_ONCE", 60)
    assert metrics.retrieval(images, texts, owners) == whole


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=5, max_size=12))
def test_associations_choose_as_many_as_are_wanted(candidates: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in candidates])
    wanted = np.array([want for _, want in candidates])
    chosen = np.isin(np.arange(len(scores)), np.argsort(scores)[len(scores) - wanted.sum() :])
    expected = jaccard_score(wanted, chosen, zero_division=0)
    assert metrics.associations([scores], [wanted])["avg_jaccard_score"] == pytest.approx(expected)
