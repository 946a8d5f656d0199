from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.curate.calibration import calibrate, calibrated
from ecodatum.curate.recipe import Recipe, Share
from ecodatum.curate.scores import PartScores
from ecodatum.curate.voting import load_columns, passes

QUALITY = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, np.nan], np.float32)
NEARNESS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], np.float32)


def recipe(*rules: dict[str, Any], **more: Any) -> Recipe:
    operators: dict[str, Any] = {"op": {}}
    return Recipe.model_validate(
        {"name": "r", "title": "R", "source": "a test", "operators": operators, "rules": list(rules), **more}
    )


@pytest.fixture
def parts(tmp_path: Path) -> list[PartScores]:
    """The ten rows in two parts of unequal length."""
    made = []
    for name, rows in (("a", slice(0, 3)), ("b", slice(3, 10))):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"quality": QUALITY[rows], "nearness": NEARNESS[rows]}), path)
        made.append(PartScores(len(QUALITY[rows]), {"op": path}))
    return made


def kept(chosen: Recipe, parts: list[PartScores]) -> list[int]:
    fixed = calibrated(chosen, calibrate(chosen, parts))
    masks = [passes(fixed.rules, load_columns(part, fixed.scores()), part.rows) for part in parts]
    return np.flatnonzero(np.concatenate(masks)).tolist()


def test_shares_of_the_pool_make_an_intersection(parts: list[PartScores]) -> None:
    rules = (
        {"score": "op.quality", "at_least": {"top": 0.5}},
        {"score": "op.nearness", "above": {"top": 0.6}},
    )
    assert kept(recipe(*rules), parts) == [4, 5]


def test_a_share_of_what_passes_ranks_only_what_the_rules_above_leave(parts: list[PartScores]) -> None:
    rules = (
        {"score": "op.quality", "at_least": {"top": 0.5}},
        {"score": "op.nearness", "at_least": {"top": 0.5, "of": "passing"}},
    )
    assert kept(recipe(*rules), parts) == [2, 3, 4, 5]  # index int(0.5 · 6) of the six that pass


def test_shares_of_what_passes_build_on_one_another(parts: list[PartScores]) -> None:
    rules = (
        {"score": "op.quality", "at_least": {"top": 0.5}},
        {"score": "op.nearness", "at_least": {"top": 0.5, "of": "passing"}},
        {"score": "op.nearness", "at_least": {"top": 0.5, "of": "passing"}},
    )
    assert kept(recipe(*rules), parts) == [3, 4, 5]


def test_a_labelling_function_may_take_a_share_of_the_candidates(parts: list[PartScores]) -> None:
    functions = [
        {"name": n, "score": "op.nearness", "boundary": {"top": 0.5, "of": "passing"}} for n in "abc"
    ]
    chosen = recipe(
        {"score": "op.quality", "at_least": 7},
        labelling_functions=functions,
        keep={"top": 0.5, "tie_break": "file_order"},
    )
    found = calibrate(chosen, parts)
    assert found == {Share("op.nearness", 0.5, 1): 1.0}
    assert calibrated(chosen, found).labelling_functions[0].boundary == 1.0


def test_a_share_of_nothing_keeps_nothing(parts: list[PartScores]) -> None:
    rules = (
        {"score": "op.quality", "above": 100},
        {"score": "op.nearness", "at_least": {"top": 0.5, "of": "passing"}},
    )
    assert kept(recipe(*rules), parts) == []
