import numpy as np
import pyarrow as pa
import pytest

from ecodatum.curate.recipe import Recipe
from ecodatum.curate.voting import ABSTAIN, REJECT, SELECT, unpack, vote_patterns


@pytest.mark.parametrize("functions", [3, 10, 11, 25, 40])
def test_a_pattern_holds_every_vote(functions: int) -> None:
    wanted = (
        np.random.default_rng(functions).choice([SELECT, REJECT, ABSTAIN], (500, functions)).astype(float)
    )
    recipe = Recipe.model_validate(
        {
            "name": "many",
            "title": "",
            "source": "",
            "operators": {"votes": {}},
            "labelling_functions": [
                {"name": f"lf{j}", "select": [{"score": f"votes.lf{j}", "at_least": 1}]}
                | {"reject": [{"score": f"votes.lf{j}", "at_least": 0, "below": 1}]}
                for j in range(functions)
            ],
            "keep": {"top": 0.5, "tie_break": "file_order"},
        }
    )
    columns = {f"votes.lf{j}": pa.chunked_array([pa.array(wanted[:, j])]) for j in range(functions)}
    assert np.array_equal(unpack(vote_patterns(recipe, columns, 500), functions), wanted)
