"""Ablation: what is left of a recipe when parts of its ensemble are taken out or put in."""

from typing import Any

import pytest
from pydantic import ValidationError

from ecodatum.curate.ablation import Ablation, ablate
from ecodatum.curate.recipe import Recipe, load_recipe
from ecodatum.errors import ConfigError

FULL = load_recipe("ecodatum_deduplicated")
NAMES = [function.name for function in FULL.labelling_functions]


def _rows(recipe: Recipe = FULL, **ablation: Any) -> dict[str, Recipe]:
    return {f"{row.how} {row.what}": row.recipe for row in ablate(recipe, Ablation.model_validate(ablation))}


def _functions(recipe: Recipe) -> list[str]:
    return [function.name for function in recipe.labelling_functions]


def test_each_is_left_out_in_turn() -> None:
    rows = _rows(drop="each")
    assert list(rows) == [f"without {name}" for name in NAMES]
    for name, recipe in zip(NAMES, rows.values(), strict=True):
        assert _functions(recipe) == [other for other in NAMES if other != name]
        assert recipe.deduplicate == FULL.deduplicate and recipe.label_model == FULL.label_model


def test_an_operator_that_nothing_reads_any_more_is_not_scored() -> None:
    rows = _rows(drop="each")
    assert "icc" not in rows["without icc"].operators
    assert "grounding" not in rows["without grounding"].operators
    assert "clip" in rows["without clip"].operators  # H-CLIP, V-CLIP and deduplication read it
    assert set(rows["without blurry"].operators) == set(FULL.operators)


def test_a_score_breaks_no_ties_where_no_function_reads_its_operator_any_more() -> None:
    def ties(rows: dict[str, Recipe]) -> dict[str, str | None]:
        return {row: recipe.keep.tie_break if recipe.keep else None for row, recipe in rows.items()}

    assert set(ties(_rows(drop="each")).values()) == {"clip.similarity"}
    operators = ties(_rows(drop="each", of="operators"))
    assert operators.pop("without clip") == "uid" and set(operators.values()) == {"clip.similarity"}
    groups = ties(_rows(only={"unimodal": NAMES[:4], "flips": ["icc", "hclip", "vclip"]}))
    assert groups == {"only unimodal": "uid", "only flips": "clip.similarity"}


def test_with_an_operator_go_all_functions_that_read_it() -> None:
    rows = _rows(drop="each", of="operators")
    assert list(rows) == [
        f"without {key}" for key in ("language", "image_quality", "clip", "icc", "grounding")
    ]
    assert _functions(rows["without clip"]) == ["blurry", "odd_aspect_ratio", "language", "icc", "grounding"]
    assert _functions(rows["without image_quality"]) == NAMES[2:]


def test_groups_are_left_alone() -> None:
    rows = _rows(only={"global": ["clip", "hclip", "vclip"], "text": ["language", "icc", "grounding"]})
    assert _functions(rows["only global"]) == ["clip", "hclip", "vclip"]
    assert _functions(rows["only text"]) == ["language", "icc", "grounding"]


def test_functions_are_added_from_three_on_for_a_label_model() -> None:
    rows = _rows(add="each")
    assert list(rows) == [f"up_to {name}" for name in NAMES[2:]]
    assert [_functions(recipe) for recipe in rows.values()] == [NAMES[:n] for n in range(3, len(NAMES) + 1)]
    voting = load_recipe("ecodatum_deduplicated", overrides={"combine": "majority_vote"})
    assert list(_rows(voting, add=["clip", "icc"])) == ["up_to clip", "up_to icc"]


def test_operators_are_added_with_their_functions() -> None:
    rows = _rows(add="each", of="operators")
    assert {row: len(_functions(recipe)) for row, recipe in rows.items()} == {
        "up_to image_quality": 3,
        "up_to clip": 6,
        "up_to icc": 7,
        "up_to grounding": 8,
    }


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        ({"drop": ["clap"]}, r"drop: there is no 'clap'\n  there are: blurry, odd_aspect_ratio"),
        ({"drop": ["perceptual_hash"], "of": "operators"}, "there are: language, image_quality, clip"),
        ({"only": "each"}, "only blurry: a label model needs at least three"),
        ({"drop": {"most": NAMES[2:]}}, "drop most: a label model needs at least three"),
    ],
)
def test_what_cannot_be_ablated_is_explained(ablation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _rows(**ablation)


def test_rules_are_no_ensemble() -> None:
    with pytest.raises(ConfigError, match="basic_filter: no labelling functions to ablate"):
        _rows(load_recipe("basic_filter"), drop="each")


@pytest.mark.parametrize("given", [{}, {"drop": "each", "add": "each"}, {"drop": "all"}, {"drop": {"a": []}}])
def test_an_ablation_takes_one_way_and_names(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"one of drop|should be each, a list"):
        Ablation.model_validate(given)
