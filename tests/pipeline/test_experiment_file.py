"""Experiment files: what they extend, and the filters that a matrix or an ablation stands for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ecodatum.errors import ConfigError
from ecodatum.pipeline.experiment import Filter, load_experiment, load_filters
from ecodatum.report.published import read_published
from tests.conftest import ROOT

BASE: dict[str, Any] = {
    "name": "base",
    "title": "Base",
    "pool": "pool",
    "filters": ["no_filter", "clip_score"],
    "train": {"scale": "small", "workers": 2},
    "evaluate": {"data": "sets"},
}
FILES = sorted((ROOT / "experiments").glob("*.yaml"))


def _write(folder: Path, stem: str = "base", /, **changes: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    content = changes if "extends" in changes else {**BASE, **changes}
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def _filters(folder: Path, *filters: Any) -> dict[str, Filter]:
    loaded = load_filters(load_experiment(_write(folder, filters=list(filters))))
    return {item.name: item for item in loaded}


def test_mappings_are_merged_and_lists_replaced(tmp_path: Path) -> None:
    _write(tmp_path)
    path = _write(
        tmp_path, "mine", extends="base", name="mine", filters=["no_filter"], train={"scale": "medium"}
    )
    mine = load_experiment(path)
    assert (mine.name, mine.title, mine.train.scale, mine.train.workers) == ("mine", "Base", "medium", 2)
    assert [spec.recipe for spec in mine.filters] == ["no_filter"]


def test_a_file_in_another_folder_finds_what_lies_beside_the_one_it_extends(tmp_path: Path) -> None:
    far = tmp_path / "far"
    for folder in ("pool", "sets"):
        (far / folder).mkdir(parents=True)
    (far / "own.yaml").write_text((ROOT / "baselines/no_filter.yaml").read_text())
    (far / "subset.npy").touch()
    (far / "no_filter").touch()  # a file that is called as a title is
    subset = {"name": "given", "title": "subset.npy", "subset": "subset.npy"}
    base = _write(far, filters=["own.yaml", subset])
    middle = _write(tmp_path / "middle", "middle", extends=base, name="middle")
    mine = load_experiment(_write(tmp_path / "near", "mine", extends=middle, name="mine"))
    assert mine.path(mine.pool) == (far / "pool").resolve()
    assert mine.path(mine.evaluate.data) == (far / "sets").resolve()
    loaded = load_filters(mine)
    assert [item.name for item in loaded] == ["no_filter", "given"]
    assert loaded[1].subset == (far / "subset.npy").resolve() and loaded[1].title == "subset.npy"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extends": "mine", "name": "mine"},
            r"mine\.yaml: extends: goes in a circle: mine.yaml -> mine.yaml",
        ),
        ({"extends": "other", "name": "mine"}, r"goes in a circle: mine.yaml -> other.yaml -> mine.yaml"),
        ({"extends": "base"}, r"key 'name' is missing\n  not the name of base: one of its own"),
        ({"extends": 3, "name": "mine"}, "should be a path or a name"),
        (
            {"extends": "bsae", "name": "mine"},
            r"mine.yaml: extends: bsae: no such file.*\n.*known names: base",
        ),
        ({"extends": "base", "name": "mine", "trian": {}}, "unknown key 'trian': did you mean 'train'"),
    ],
)
def test_an_extension_that_cannot_be_is_explained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _write(tmp_path)
    _write(tmp_path, "other", extends="mine", name="other")
    with pytest.raises(ConfigError, match=message):
        load_experiment(_write(tmp_path, "mine", **changes))


def test_a_matrix_is_the_product_of_its_values(tmp_path: Path) -> None:
    rows = _filters(
        tmp_path,
        {
            "recipe": "ecodatum",
            "matrix": {"keep.top": [0.1, 0.2], "combine": ["majority_vote", "mean_score"]},
        },
    )
    assert list(rows) == [
        f"ecodatum_top_{top}_{how}" for top in (0.1, 0.2) for how in ("majority_vote", "mean_score")
    ]
    last = rows["ecodatum_top_0.2_mean_score"]
    assert last.title == "EcoDatum top 0.2, mean score"
    assert last.recipe and last.recipe.keep and last.recipe.keep.top == 0.2
    assert last.recipe.combine == "mean_score"


def test_values_and_rows_are_named_by_their_author(tmp_path: Path) -> None:
    rows = _filters(
        tmp_path,
        {
            "recipe": "clip_score",
            "name": "clip",
            "title": "CLIP",
            "matrix": {"rules.0.at_least": {"best": {"top": 0.1}, 28: 0.28}},
        },
    )
    assert {name: row.title for name, row in rows.items()} == {"clip_best": "CLIP best", "clip_28": "CLIP 28"}


def test_a_matrix_makes_filters_of_recipes(tmp_path: Path) -> None:
    rows = _filters(tmp_path, {"matrix": {"recipe": ["no_filter", "clip_score"]}})
    assert [(row.name, row.title) for row in rows.values()] == [
        ("no_filter", "No filtering"),
        ("clip_score", "CLIP score (top 30 %)"),
    ]


def test_an_ablation_goes_over_every_row_of_a_matrix(tmp_path: Path) -> None:
    rows = _filters(
        tmp_path,
        {"recipe": "ecodatum", "matrix": {"keep.top": [0.1, 0.2]}, "ablate": {"drop": ["clip", "language"]}},
    )
    assert list(rows) == [f"ecodatum_top_{t}_without_{f}" for t in (0.1, 0.2) for f in ("clip", "language")]
    assert rows["ecodatum_top_0.1_without_clip"].title == "EcoDatum top 0.1, without clip"


def test_a_list_that_rows_share_is_set_for_each_of_them_apart(tmp_path: Path) -> None:
    step = {"name": "pool", "top": 1.0, "keep_best": "random"}
    rows = _filters(
        tmp_path,
        {
            "recipe": "no_filter",
            "set": {"deduplicate": [step]},
            "matrix": {"deduplicate.pool.top": [0.1, 0.5]},
        },
    )
    found = [row.recipe.deduplicate[0].model_dump()["top"] for row in rows.values() if row.recipe]
    assert found == [0.1, 0.5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "ecodatum", "matrix": {"keep.top": 0.1}}, "filters.1.matrix: keep.top: should be a list"),
        ({"recipe": "ecodatum", "matrix": {}}, "filters.1.matrix: should be a mapping"),
        ({"recipe": "ecodatum", "matrix": {"keep": [{"top": 1}]}}, "write {name: value}"),
        (
            {"recipe": "ecodatum", "matrix": {"keep.tpo": [0.1]}},
            r"base.yaml, filters.1: .*unknown key 'keep.tpo'",
        ),
        ({"recipe": "ecodatum", "matrix": {"recipe": ["a"]}}, "either recipe or subset"),
        ({"name": "x", "subset": "x.npy", "ablate": {"drop": "each"}}, "no matrix and no ablate"),
        (
            {"recipe": "ecodatum", "ablate": {"drop": ["x"]}},
            r"base.yaml, filters.1.ablate: .* there is no 'x'",
        ),
        ({"recipe": "ecodatum", "ablate": {"dorp": "each"}}, "unknown key 'filters.1.ablate.dorp'"),
        ({"recipe": "ecodatum", "ablate": {"drop": 3}}, "filters.1.ablate.drop: should be each, a list"),
        ({"recipe": "ecodatum", "ablate": {"drop": {"a b": "clip"}}}, "drop: should be each, a list"),
        ({"recipe": "ecodatum", "ablate": {"add": ["clip"]}}, "add: never as many as 3 labelling functions"),
        (3, r"filters.1: should be a mapping of keys to values \(given: 3\)$"),
        ("no_filter", "two filters are named 'no_filter'"),
    ],
)
def test_a_slip_names_file_key_and_what_is_allowed(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _filters(tmp_path, "no_filter", given)
    assert "base.yaml" in str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_experiment_is_short_and_loads(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 30
    experiment = load_experiment(str(path))
    if path.stem == "small_thresholds":  # its third filter is what `ecodatum tune` writes
        with pytest.raises(ConfigError, match=r"filters.2: ecodatum_tuned.yaml: no such file"):
            load_filters(experiment)
        return
    assert experiment.name == path.stem and len(load_filters(experiment)) >= 2
    if path.stem.startswith(("small", "medium")):
        assert experiment.seeds == (0, 1, 2)


def test_the_rows_of_the_papers_tables_are_named_as_their_published_numbers() -> None:
    published = read_published()
    published = published[published["source"].str.startswith("arXiv 2502.08211")]
    for number in (2, 3, 4, 7, 8):
        theirs = published[published["source"].str.endswith(f"Table {number}")]["filter"]
        ours = {row.name for row in load_filters(load_experiment(f"small_table{number}"))}
        assert set(theirs) <= ours
