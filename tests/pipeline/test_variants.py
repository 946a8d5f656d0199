"""Curation of the filters that a matrix or an ablation stands for: shared, right, repeatable."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ecodatum.cli.console import StageProgress
from ecodatum.cli.plan import sharing_line, stage_table, unit_table
from ecodatum.pipeline.curation import VERSIONS, Curation
from ecodatum.pipeline.experiment import load_experiment, load_filters
from ecodatum.pipeline.graph import build_graph
from ecodatum.pipeline.run import run_stages
from ecodatum.pipeline.sharing import unit_users, users_of
from ecodatum.pool.pool import open_pool
from ecodatum.pool.subsets import read_subset
from tests.conftest import write_pool

ROWS = 48
RECIPE = {
    "name": "votes",
    "title": "Votes",
    "source": "a test",
    "operators": {"metadata": {}, "caption": {}, "image_quality": {}},
    "labelling_functions": [
        {
            "name": "l14",
            "score": "metadata.clip_l14_similarity_score",
            "boundary": {"top": 0.5},
            "margin": 0.05,
        },
        {"name": "b32", "score": "metadata.clip_b32_similarity_score", "boundary": 0.25, "margin": 0.1},
        {"name": "short", "reject": [{"score": "caption.characters", "at_most": 29}]},
        {"name": "dark", "reject": [{"score": "image_quality.dark", "at_most": 0.32}]},
    ],
    "label_model": {"epochs": 20},
    "keep": {"top": 0.4, "tie_break": "metadata.clip_l14_similarity_score"},
}
L14 = np.array([(number * 53 % 101) / 200 for number in range(ROWS)])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("variants") / "pool", ROWS // 2, 2, {})


def _plan(folder: Path, pool: Path, *filters: Any) -> Curation:
    folder.mkdir(exist_ok=True)
    (folder / "votes.yaml").write_text(yaml.safe_dump(RECIPE))
    experiment = {
        "name": "e",
        "pool": str(pool),
        "filters": list(filters),
        "train": {"scale": "small"},
        "evaluate": {"data": "sets"},
    }
    (folder / "e.yaml").write_text(yaml.safe_dump(experiment))
    curation = Curation(open_pool(pool), folder / "work", folder / "logs", "cpu")
    curation.plan(load_filters(load_experiment(str(folder / "e.yaml"))))
    return curation


def _curate(folder: Path, pool: Path, *filters: Any) -> dict[str, list[int]]:
    """Return the rows that each filter keeps."""
    curation = _plan(folder, pool, *filters)
    run_stages(curation.units, tuple(VERSIONS), jobs=0, folder=folder, reporter=StageProgress())
    uids = np.concatenate([_uid(number) for number in range(ROWS)])
    found = {}
    for name, output in curation.subsets.items():
        kept = read_subset(output.path)
        found[name] = np.flatnonzero(np.isin(uids, kept)).tolist()
    return found


def _uid(number: int) -> np.ndarray:
    whole = (number * 0x9E3779B97F4A7C15 + 1) % 2**128
    return np.array([(whole >> 64, whole % 2**64)], "u8,u8")


def _counts(curation: Curation) -> dict[str, int]:
    left = [unit.stage for unit in curation.units if not unit.done()]
    return {stage: left.count(stage) for stage in VERSIONS}


ABLATIONS = (
    {"recipe": "votes.yaml", "ablate": {"drop": "each"}},
    {"recipe": "votes.yaml", "matrix": {"combine": ["majority_vote", "random_weights", "mean_score"]}},
)


def test_an_ablation_scores_nothing_twice(pool: Path, tmp_path: Path) -> None:
    alone = _plan(tmp_path, pool, "votes.yaml")
    every = _plan(tmp_path, pool, "votes.yaml", *ABLATIONS)
    scored = [output for unit in every.units if unit.stage == "score" for output in unit.outputs]
    assert len(scored) == len({output.path for output in scored}) == 3 * 2  # operators by parts
    assert _counts(every)["score"] == _counts(alone)["score"]
    _curate(tmp_path, pool, "votes.yaml")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work/scores").rglob("*")}
    assert _counts(_plan(tmp_path, pool, "votes.yaml", *ABLATIONS))["score"] == 0
    kept = _curate(tmp_path, pool, "votes.yaml", *ABLATIONS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work/scores").rglob("*")} == before
    assert {name: len(rows) for name, rows in kept.items()} == dict.fromkeys(kept, int(0.4 * ROWS))
    assert len(kept) == 8


def test_what_only_the_size_tells_apart_is_voted_and_fitted_once(pool: Path, tmp_path: Path) -> None:
    sweep = {"recipe": "votes.yaml", "matrix": {"keep.top": [0.1, 0.2, 0.5]}}
    assert _counts(_plan(tmp_path, pool, sweep)) == {
        "score": 4,  # captions and metadata in one pass, images in another, by parts
        "calibrate": 1,
        "deduplicate": 0,
        "vote": 2,
        "fit": 1,
        "select": 3,
    }
    few, more, most = (set(rows) for rows in _curate(tmp_path, pool, sweep).values())
    assert few < more < most and len(most) == ROWS // 2


def test_the_mean_of_one_score_ranks_as_the_score_does(pool: Path, tmp_path: Path) -> None:
    spec = {"recipe": "votes.yaml", "set": {"combine": "mean_score"}, "ablate": {"only": ["l14"]}}
    (rows,) = _curate(tmp_path, pool, spec).values()
    assert rows == sorted(np.argsort(-L14, kind="stable")[: len(rows)].tolist())


def test_a_single_function_keeps_what_it_does_not_reject(pool: Path, tmp_path: Path) -> None:
    single = {
        "recipe": "votes.yaml",
        "set": {"combine": "majority_vote", "keep": {"probability": 0.5}},
        "ablate": {"only": {"l14": "l14", "short": "short"}},
    }
    kept = _curate(tmp_path, pool, single)
    low = np.sort(L14)[::-1][ROWS // 2] - 0.05
    assert kept["votes_only_l14"] == np.flatnonzero(np.float32(L14) > np.float32(low)).tolist()
    # "a photo of a red disc number 7" has 30 characters; of red discs those below 10 have a digit less.
    captions = [
        f"a photo of a {('red', 'green', 'blue', 'yellow')[i % 4]} disc number {i}" for i in range(ROWS)
    ]
    assert kept["votes_only_short"] == [i for i, caption in enumerate(captions) if len(caption) > 29]


def test_pools_are_drawn_by_uid_the_smaller_within_the_larger(pool: Path, tmp_path: Path) -> None:
    step = {"name": "pool", "top": 1.0, "keep_best": "random"}
    draws = {
        "recipe": "no_filter",
        "set": {"deduplicate": [step]},
        "matrix": {"deduplicate.pool.top": [0.1, 0.5]},
    }
    small, large = (set(rows) for rows in _curate(tmp_path / "a", pool, draws).values())
    assert small < large and (len(small), len(large)) == (int(0.1 * ROWS), ROWS // 2)
    again = _curate(tmp_path / "b", pool, draws)
    assert [set(rows) for rows in again.values()] == [small, large]


def test_the_same_seed_draws_the_same_weights(pool: Path, tmp_path: Path) -> None:
    drawn = {
        "recipe": "votes.yaml",
        "set": {"combine": "random_weights"},
        "matrix": {"label_model.seed": [1, 2, 3, 4]},
    }
    first = _curate(tmp_path / "a", pool, drawn)
    assert first == _curate(tmp_path / "b", pool, drawn)
    assert len({tuple(rows) for rows in first.values()}) > 1


def test_plan_tells_what_filters_share(pool: Path, tmp_path: Path) -> None:
    filters = ["no_filter", "votes.yaml", {"recipe": "votes.yaml", "ablate": {"drop": ["short", "dark"]}}]
    _plan(tmp_path, pool, *filters)
    task = {"key": "t", "name": "T", "group": "imagenet", "data": "t"}
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task]}))
    (tmp_path / "sets" / "t").mkdir(parents=True)
    file = tmp_path / "e.yaml"
    content = yaml.safe_load(file.read_text())
    content["evaluate"]["tasks"] = "tasks.yaml"
    file.write_text(yaml.safe_dump(content))
    graph = build_graph(load_experiment(str(file)), tmp_path / "work", device="cpu")
    users = unit_users(graph)
    shared = stage_table(graph.units, users).set_index("Stage")["Shared"]
    assert shared["score"] == "4 (by up to 3)" and shared["vote"] == shared["train"] == "-"
    images = [unit for unit in graph.units if unit.name.startswith("image")]
    assert {users_of(unit, users) for unit in images} == {frozenset({"votes", "votes_without_short"})}
    # Three ensembles: 2 + 2 units of scores (6 + 4 apart), 3 calibrations, 6 votes, 3 fits; 4 whole chains.
    assert sharing_line(users).endswith("36 units, where each filter for itself would make 42")
    listed = unit_table(graph.units, users).set_index("Unit")["Filters"]
    assert listed["no_filter-seed0"].tolist() == ["no_filter", "no_filter"]
