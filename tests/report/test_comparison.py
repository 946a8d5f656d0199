"""A leaderboard beside published numbers, and its filters beside one of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecodatum.errors import ConfigError
from ecodatum.evaluate.tasks import Task
from ecodatum.report.comparison import against_baseline, against_published, noise, not_run, published_name
from ecodatum.report.leaderboard import leaderboard
from ecodatum.report.remarks import noise as noise_note
from ecodatum.train.scales import FIXED
from tests.report.finished_runs import SCORED, Scores, finished_graph, recipe_filter, subset_filter

NO_FILTER, BASIC = recipe_filter("no_filter"), recipe_filter("basic_filter")


def compared(folder: Path, scores: Scores, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows beside published numbers by filter and group."""
    filters = [NO_FILTER, BASIC, subset_filter("oracle", "Oracle")]
    board = leaderboard(finished_graph(folder, filters, scores, **changes))
    rows: list[dict[str, Any]] = against_published(board).to_dict("records")  # type: ignore[assignment]
    return {(row["filter"], row["group"]): row for row in rows}


def test_each_score_of_a_published_filter_is_set_beside_the_source(tmp_path: Path) -> None:
    beside = compared(tmp_path, {"no_filter": {0: 0.13, 1: 0.14, 2: 0.15}, "oracle": {0: 0.9}})
    groups = ("ImageNet", "ImageNet dist. shifts", "VTAB", "Retrieval", "Average")
    assert list(beside) == [(name, group) for name in ("no_filter", "basic_filter") for group in groups]
    row = beside["no_filter", "Average"]
    assert (row["published"], row["source"]) == (0.132, "arXiv 2304.14108, Table 3")
    assert (row["mean"], row["std"], row["difference"]) == pytest.approx((0.14, 0.01, 0.008))


def test_within_noise_is_the_prediction_interval_of_one_more_run(tmp_path: Path) -> None:
    """t(0.975; 2) = 4.303 (any table of Student's t): 4.303 · 0.01 · √(4/3) = 0.0497."""
    beside = compared(tmp_path, {"no_filter": {0: 0.13, 1: 0.14, 2: 0.15}, "basic_filter": {0: 0.142}})
    assert beside["no_filter", "Average"]["noise"] == pytest.approx(0.0497, abs=1e-4)
    assert beside["no_filter", "Average"]["within"] is True
    assert beside["no_filter", "ImageNet"]["within"] is False  # published: 0.025
    assert beside["basic_filter", "Average"]["within"] is None
    assert math.isnan(beside["basic_filter", "Average"]["noise"])


def test_a_difference_that_rounding_explains_is_within_noise(tmp_path: Path) -> None:
    equal = compared(tmp_path / "a", {"no_filter": {0: 0.1324, 1: 0.1324}})
    assert equal["no_filter", "Average"]["noise"] == 0
    assert equal["no_filter", "Average"]["within"] is True
    off = compared(tmp_path / "b", {"no_filter": {0: 0.1326, 1: 0.1326}})
    assert off["no_filter", "Average"]["within"] is False


def test_a_further_run_falls_within_noise_19_times_of_20() -> None:
    draws = np.random.default_rng(0).normal(0.18, 0.01, (2000, 4))
    ours = draws[:, :3]
    within = [
        abs(further - mean) <= noise(std, 3)
        for mean, std, further in zip(ours.mean(1), ours.std(1, ddof=1), draws[:, 3], strict=True)
    ]
    assert np.mean(within) == pytest.approx(0.95, abs=0.015)


def test_a_filter_of_which_nothing_is_finished_has_its_published_number(tmp_path: Path) -> None:
    row = compared(tmp_path, {"no_filter": {0: 0.1}})["basic_filter", "Average"]
    assert row["published"] == 0.142 and math.isnan(row["difference"]) and row["within"] is None


def test_scales_and_tasks_of_ones_own_are_not_compared(tmp_path: Path) -> None:
    scores: Scores = {"no_filter": {0: 0.1}}
    own = FIXED["small"].model_copy(update={"samples_seen": 1_280_000})
    assert not compared(tmp_path / "a", scores, scale=own)
    assert not compared(tmp_path / "b", scores, scale=FIXED["debug"])
    tasks = (Task(key="imagenet1k", name="ImageNet 1k", group="imagenet"),)
    assert not compared(tmp_path / "c", scores, tasks=tasks)
    assert compared(tmp_path / "d", scores, scale=FIXED["medium"])


def test_a_filter_goes_by_its_name_or_by_what_its_recipe_does() -> None:
    known = {"ecodatum", "clip_score_l14_30", "t_mars"}
    same = recipe_filter("clip_score", name="mine", title="Mine")
    assert published_name(same, known) == "clip_score_l14_30"
    other = recipe_filter("clip_score", name="mine", rules__0__at_least__top=0.2)
    assert published_name(other, known) is None
    assert published_name(subset_filter("t_mars", "T-MARS"), known) == "t_mars"
    assert published_name(subset_filter("oracle", "Oracle"), known) is None


def test_a_recipe_under_its_own_name_that_was_changed_is_told(tmp_path: Path) -> None:
    changed = recipe_filter("clip_score_l14_30", rules__0__at_least__top=0.2)
    named = recipe_filter("ecodatum_deduplicated", name="ecodatum")
    other_model = recipe_filter("basic_filter", operators__language__model="lid.176.bin")
    graph = finished_graph(tmp_path, [changed, named, other_model], {"basic_filter": {0: 0.1}})
    beside = against_published(leaderboard(graph))
    told = dict(zip(beside["filter"], beside["changed"], strict=True))
    assert told == {"clip_score_l14_30": True, "ecodatum": False, "basic_filter": False}
    assert "published: CLIP score (L/14, top 30 %)." in "".join(
        noise_note(beside.loc[beside["changed"], "title"])
    )


def test_what_was_not_run_is_the_rest_of_the_scale(tmp_path: Path) -> None:
    board = leaderboard(finished_graph(tmp_path / "a", [NO_FILTER, BASIC], {"no_filter": {0: 0.1}}))
    others = set(not_run(board, against_published(board))["filter"])
    assert "ecodatum" in others and "text_based" in others and not others & {"no_filter", "basic_filter"}
    own = FIXED["small"].model_copy(update={"samples_seen": 1_280_000})
    board = leaderboard(finished_graph(tmp_path / "b", [NO_FILTER], {"no_filter": {0: 0.1}}, scale=own))
    with pytest.raises(ConfigError, match="nothing is published"):
        not_run(board, against_published(board))


def test_a_filter_is_compared_with_the_baseline_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    higher = [0.2] * len(SCORED)
    higher[0] = 0.58
    scores: Scores = {
        "no_filter": {0: 0.2, 1: 0.9},
        "basic_filter": {0: higher, 2: 0.9},
        "oracle": {2: 0.9},
    }
    graph = finished_graph(tmp_path, [NO_FILTER, BASIC, subset_filter("oracle", "Oracle")], scores)
    found = against_baseline(leaderboard(graph), "no_filter").to_dict("index")
    basic, oracle = found["basic_filter"], found["oracle"]
    assert (basic["seeds"], basic["tasks"], basic["difference"]) == (1, 38, pytest.approx(0.38 / 38))
    assert basic["low"] == 0 < basic["high"]
    assert oracle["seeds"] == 0 == oracle["tasks"] and math.isnan(oracle["p"])


@pytest.mark.parametrize(
    ("name", "message"), [("nix", "no filter is named"), ("basic_filter", "no finished")]
)
def test_a_baseline_that_cannot_be_compared_with_is_refused(tmp_path: Path, name: str, message: str) -> None:
    board = leaderboard(finished_graph(tmp_path, [NO_FILTER, BASIC], {"no_filter": {0: 0.1}}))
    with pytest.raises(ConfigError, match=message):
        against_baseline(board, name)
