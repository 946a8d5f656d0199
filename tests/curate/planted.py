"""A pool's scores with a planted truth, and a recipe whose thresholds are set badly."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ecodatum.curate.recipe import Recipe
from ecodatum.curate.samples import store_scores
from ecodatum.curate.scores import PartScores
from ecodatum.curate.tuning import Labelled
from ecodatum.curate.voting import load_columns

ROWS = 3000

RECIPE: dict[str, Any] = {
    "name": "planted",
    "title": "Planted",
    "source": "a test",
    "operators": {"a": {}, "b": {}, "c": {}},
    # Good samples score about 1, bad ones about -1; these boundaries cut through one class alone.
    "labelling_functions": [
        {"name": "first", "score": "a.score", "boundary": 1.6, "margin": 0.1},
        {
            "name": "second",
            "select": [{"score": "b.score", "at_least": {"top": 0.05}}],
            "reject": [{"score": "b.score", "at_most": {"top": 0.5}}],
        },
        {"name": "third", "reject": [{"score": "c.score", "at_most": -3.0}]},
    ],
    "keep": {"top": 0.3, "tie_break": "file_order"},
}


def planted_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changes})


def planted_scores(folder: Path, seed: int = 0) -> tuple[PartScores, Labelled]:
    """Store scores of ROWS rows, and return them with 300 of the rows, labelled."""
    rng = np.random.default_rng(seed)
    good = rng.random(ROWS) < 0.4
    centre = np.where(good, 1.0, -1.0)
    columns = {f"{key}.score": (centre + rng.normal(0, 1, ROWS)).astype(np.float32) for key in "abc"}
    columns["a.score"][::50] = np.nan
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    scores = store_scores(table, folder)
    rows = np.zeros(ROWS, bool)
    rows[:300] = True
    return scores, Labelled(load_columns(scores, list(columns)), good).take(rows)
