"""Every labelling function that the released EcoDatum ships votes as the recipes' do, on the same scores."""

import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ecodatum.curate.recipe import Recipe, load_recipe
from ecodatum.curate.voting import vote
from ecodatum.operators.grounding import Detections, summaries

#: The recipe's function for each of the released code's, in its order.
FUNCTIONS = {
    "check_blurry_score": "blurry",
    "check_dark_score": "dark",
    "check_grayscale_score": "grayscale",
    "check_light_score": "light",
    "check_low_information_score": "low_information",
    "check_odd_aspect_ratio_score": "odd_aspect_ratio",
    "check_odd_size_score": "odd_size",
    "check_image_text_similarity": "clip",
    "check_char_rep_ratio": "character_repetition",
    "check_lang_and_lang_score": "language",
    "check_word_rep_ratio": "word_repetition",
    "check_hclip": "hclip",
    "check_vclip": "vclip",
    "check_avg_ratio": "box_aspect",
    "check_num_detections": "detections",
    "check_avg_score": "confidence_mean",
    "check_max_score": "confidence_max",
    "check_icc_score": "icc",
    "check_gdino_v1": "grounding",
    "check_gdino_v2": "confident_box_aspect",
    "check_five_quality_metrics": "quality",
}

#: Our column for each of its names, but for the boxes' lists.
COLUMNS = {
    "blurry_score": "image_quality.blurry",
    "dark_score": "image_quality.dark",
    "light_score": "image_quality.light",
    "low_information_score": "image_quality.low_information",
    "odd_aspect_ratio_score": "image_quality.odd_aspect_ratio",
    "grayscale_score": "image_quality.grayscale",
    "odd_size_score": "image_quality.size",
    "image_text_similarity": "clip.similarity",
    "hclip_image_text_similarity": "clip.hclip_similarity",
    "vclip_image_text_similarity": "clip.vclip_similarity",
    "char_rep_ratio": "repetition.character_ratio",
    "word_rep_ratio": "repetition.word_ratio",
    "lang": "language.lang",
    "lang_score": "language.lang_score",
    "icc_score": "icc.score",
    "avg_ratio": "grounding.aspect_10",
    "num_detections": "grounding.count_10",
    "avg_score": "grounding.mean_confidence",
    "max_score": "grounding.max_confidence",
}
ROWS = 2000


@pytest.fixture(scope="module")
def released() -> dict[str, Any]:
    script = Path(os.environ.get("ECODATUM_HOME", "")) / "labeling_functions.py"
    if not script.is_file():
        pytest.skip("no checkout of EcoDatum (set ECODATUM_HOME)")
    return runpy.run_path(str(script))


def made_scores() -> dict[str, pa.ChunkedArray]:
    """Random scores, a third of them exactly at a threshold that some function has, in double precision."""
    chance = np.random.default_rng(0)
    edges = [0.29 - 0.01, 0.29, 0.32 - 0.05, 0.32, 0.0, 0.05, 0.3 - 0.05, 0.3, 0.33, 0.21 + 0.02, 0.21 - 0.02]
    edges += [0.02, -0.02, 0.01, 0.2, 0.035, 0.005, 0.95, 1.0]
    columns: dict[str, Any] = {}
    for name in COLUMNS.values():
        values = chance.uniform(-0.1 if name.startswith("clip") else 0, 1, ROWS)
        at_edge = chance.random(ROWS) < 1 / 3
        values[at_edge] = chance.choice(edges, int(at_edge.sum()))
        columns[name] = values if name.startswith("clip") else np.abs(values)
    columns["image_quality.grayscale"] = chance.integers(0, 2, ROWS).astype(np.int8)
    columns["image_quality.size"] = chance.uniform(1, 500, ROWS)
    columns["language.lang"] = chance.choice(["en", "de", "ja"], ROWS).tolist()
    return {name: pa.chunked_array([pa.array(values)]) for name, values in columns.items()}


def made_boxes() -> list[Detections]:
    """Up to twelve boxes an image, some of them square, and images without any."""
    chance = np.random.default_rng(1)
    found = []
    for count in chance.integers(0, 13, ROWS):
        corner, side = chance.uniform(0, 0.5, (count, 2)), chance.uniform(0.001, 0.5, (count, 2))
        side[chance.random(count) < 0.8] *= [1, 0.02]
        side[chance.random(count) < 0.3, 1] = 0.3
        side[chance.random(count) < 0.3, 0] = 0.3
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        found.append(Detections(chance.uniform(0.1001, 0.5, count).astype(np.float32), boxes, 1.0))
    return found


@pytest.fixture(scope="module")
def scores() -> dict[str, pa.ChunkedArray]:
    ours = summaries(made_boxes(), np.zeros(ROWS, bool))
    boxes = {f"grounding.{name}": pa.chunked_array([values]) for name, values in ours.items()}
    return {**made_scores(), **boxes}


@pytest.fixture(scope="module")
def rows(released: dict[str, Any], scores: dict[str, pa.ChunkedArray]) -> list[list[Any]]:
    """The samples as the released code has them: a list each, in the order of its names."""
    detections = made_boxes()
    lists = {
        "scores": [one.confidences.tolist() or [0.0] for one in detections],
        "boxes": [one.boxes.tolist() for one in detections],
        "num_detections_1": [len(one.confidences) for one in detections],
    }
    columns = [
        lists[name] if name in lists else scores[COLUMNS[name]].to_pylist() for name in released["OPS_LIST"]
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def votes_of(recipe: Recipe, name: str, scores: dict[str, pa.ChunkedArray]) -> Any:
    (function,) = (f for f in recipe.labelling_functions if f.name == name)
    return vote(function, scores, ROWS)


def test_every_released_function_is_in_the_recipe(released: dict[str, Any]) -> None:
    theirs = [name for name in released if name.startswith("check_")]
    assert theirs == list(FUNCTIONS)
    ours = [function.name for function in load_recipe("ecodatum_released_all").labelling_functions]
    assert ours == list(FUNCTIONS.values())


@pytest.mark.parametrize("peer", FUNCTIONS)
def test_votes_are_those_of_the_released_function(
    peer: str, released: dict[str, Any], rows: list[list[Any]], scores: dict[str, pa.ChunkedArray]
) -> None:
    theirs = [released[peer](row) for row in rows]
    ours = votes_of(load_recipe("ecodatum_released_all"), FUNCTIONS[peer], scores)
    assert ours.tolist() == theirs
    assert len(set(theirs)) > 1 or peer in {"check_odd_size_score", "check_avg_ratio"}  # placeholders


def test_the_ensemble_has_the_same_functions_under_the_same_names() -> None:
    every = {function.name: function for function in load_recipe("ecodatum_released_all").labelling_functions}
    ensemble = load_recipe("ecodatum_released").labelling_functions
    assert [function == every[function.name] for function in ensemble] == [True] * 8
