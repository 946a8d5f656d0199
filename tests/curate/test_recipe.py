from pathlib import Path
from typing import Any

import pytest
import yaml

from ecodatum.curate.recipe import Top, load_recipe
from ecodatum.errors import ConfigError

RECIPE: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "source": "a test",
    "operators": {"metadata": {}},
    "rules": [{"score": "metadata.clip_l14_similarity_score", "at_least": {"top": 0.3}}],
}


def _write(folder: Path, **changes: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


def test_every_shipped_recipe_is_valid() -> None:
    names = [path.stem for path in Path(__file__).parents[2].glob("baselines/*.yaml")]
    assert {"no_filter", "basic_filter", "clip_score"} <= set(names)
    assert [load_recipe(name).name for name in names] == names


def test_values_are_set_by_dotted_key() -> None:
    key = "rules.0.at_least"
    assert load_recipe("clip_score", overrides={f"{key}.top": 0.2}).rules[0].at_least == Top(top=0.2)
    assert load_recipe("clip_score", overrides={key: 0.28}).rules[0].at_least == 0.28


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "x"}, "unknown key 'titel': did you mean 'title'?"),
        ({"rules": [{"score": "metadata.x", "at_leats": 1}]}, "did you mean 'at_least'?"),
        ({"rules": [{"score": "metadata.x", "at_least": "0.3"}]}, "should be a number, or {top"),
        ({"rules": [{"score": "metadata.x", "at_least": True}]}, "should be a number, or {top"),
        ({"rules": [{"score": "metadata.x", "at_least": {"top": 1.5}}]}, "less than or equal to 1"),
        ({"rules": [{"score": "metadata.x"}]}, "needs a comparison"),
        ({"rules": [{"score": "language.lang", "is": "en"}]}, "no operator gives language.lang"),
        ({"rules": 3}, "rules"),
        ({"name": "with space"}, "name"),
        ({"labelling_functions": [{"name": "a", "score": "metadata.x", "boundary": 0}]}, "go together"),
    ],
)
def test_a_bad_recipe_names_file_key_and_mend(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(_write(tmp_path, **changes))
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"known names: .*basic_filter"):
        load_recipe("basic_filtr")


def test_a_key_that_cannot_be_set_is_explained() -> None:
    with pytest.raises(ConfigError, match="no item 7"):
        load_recipe("basic_filter", overrides={"rules.7.at_least": 1})


def test_what_is_not_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match="not YAML"):
        load_recipe(str(path))
