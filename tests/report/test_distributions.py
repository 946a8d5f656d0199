"""Distributions of scores, and the zones that thresholds make of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.curate.recipe import Recipe
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pool.pool import Part
from ecodatum.report.distributions import OTHERS, distribution
from ecodatum.report.zones import Zone, zones


def parts(folder: Path, *columns: list[Any], kind: pa.DataType | None = None) -> list[PartFiles]:
    """Store the score `op.x`, a list a part."""
    files = []
    for number, values in enumerate(columns):
        path = folder / f"{number}.parquet"
        pq.write_table(pa.table({"x": pa.array(values, kind)}), path)
        part = Part(f"{number}", folder / "none", len(values), "", ())
        files.append(PartFiles(part, {"op": path}))
    return files


def test_parts_are_counted_as_one_pool(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000).round(3)
    zone = Zone("op.x", "at_least", 0.5, "select", "f")
    found = distribution(
        parts(tmp_path, values[:10].tolist(), [], values[10:].tolist(), kind=pa.float64()), "op.x", [zone]
    )
    assert found and found.counts is not None and found.edges is not None
    assert found.counts.sum() == 1000 and found.rows == 1000
    clipped = np.clip(values, found.edges[0], found.edges[-1])
    assert found.counts.tolist() == np.histogram(clipped, found.edges)[0].tolist()
    assert found.shares == ((values >= 0.5).mean(),)


def test_what_lies_far_out_does_not_squeeze_the_rest(tmp_path: Path) -> None:
    values = [*np.linspace(0, 1, 5000).tolist(), 1e9]
    found = distribution(parts(tmp_path, values), "op.x", [])
    assert found and found.edges is not None and found.counts is not None
    assert found.edges[-1] < 1.1 and found.counts.sum() == 5001


def test_a_threshold_out_of_all_scores_is_in_the_picture(tmp_path: Path) -> None:
    found = distribution(parts(tmp_path, [0.8, 0.9]), "op.x", [Zone("op.x", "at_most", 0.1, "reject", "f")])
    assert found and found.edges is not None and found.edges[0] < 0.1 and found.shares == (0.0,)


@pytest.mark.parametrize("values", [[None, None], [], [0.5], [0.5, 0.5, None]])
def test_few_or_no_scores_have_a_histogram(tmp_path: Path, values: list[Any]) -> None:
    found = distribution(parts(tmp_path, values, kind=pa.float32()), "op.x", [])
    assert found and found.counts is not None
    assert found.counts.sum() == len([value for value in values if value is not None])
    assert found.missing == values.count(None)


def test_whole_numbers_have_a_bin_each(tmp_path: Path) -> None:
    found = distribution(parts(tmp_path, [1, 2, 2, 7], kind=pa.int32()), "op.x", [])
    assert found and found.counts is not None and found.counts.tolist() == [1, 2, 0, 0, 0, 0, 1]


def test_words_are_counted_and_the_rare_ones_together(tmp_path: Path) -> None:
    words = [word for i, word in enumerate("abcdefgh") for _ in range(10 - i)]
    zone = Zone("op.x", "is not", "a", "reject", "f")
    found = distribution(parts(tmp_path, words[:20], [*words[20:], None]), "op.x", [zone])
    assert found and found.edges is None
    assert found.categories == (("a", 10), ("b", 9), ("c", 8), ("d", 7), ("e", 6), ("f", 5), (OTHERS, 7))
    assert found.shares == (42 / 53,)  # a missing word is not rejected: the function abstains


def test_scores_that_are_not_there_have_none(tmp_path: Path) -> None:
    files = parts(tmp_path, [1.0], [2.0])
    (tmp_path / "1.parquet").unlink()
    assert distribution(files, "op.x", []) is None


def recipe(function: dict[str, Any], **more: Any) -> Recipe:
    others = [{"name": f"other{i}", "reject": [{"score": "op.y", "at_most": 1.0}]} for i in (1, 2)]
    document = {
        "name": "r",
        "title": "R",
        "source": "a test",
        "operators": {"op": {}},
        "labelling_functions": [{"name": "f", **function}, *others],
        "keep": {"top": 0.5},
        **more,
    }
    return Recipe.model_validate(document)


def told(found: Recipe) -> list[str]:
    return [f"{zone.effect} {zone.words}" for zone in zones(found) if zone.function in ("", "f")]


def test_a_boundary_with_a_margin_has_two_zones() -> None:
    assert told(recipe({"score": "op.x", "boundary": 0.25, "margin": 0.05})) == [
        "reject ≤ 0.2",
        "select ≥ 0.3",
    ]


def test_what_is_rejected_unless_it_passes_lies_on_the_other_side() -> None:
    unless = [{"score": "op.x", "above": 2, "below": 9}, {"score": "op.lang", "is": "en"}]
    assert told(recipe({"reject_unless": unless})) == ["reject ≤ 2", "reject ≥ 9", "reject is not en"]


def test_rules_keep_and_a_share_that_is_not_calibrated_has_no_zone() -> None:
    rules = [{"score": "op.x", "at_least": -0.5}, {"score": "op.x", "at_least": {"top": 0.3}}]
    assert told(recipe({"select": [{"score": "op.x", "above": 1.0}]}, rules=rules)) == [
        "keep ≥ −0.5",
        "select > 1",
    ]
