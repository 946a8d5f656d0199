"""Engines and divided evaluations in an experiment's graph."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ecodatum.errors import ConfigError
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, build_graph
from tests.conftest import write_pool
from tests.pipeline.small_experiment import write_experiment

TRAIN = {"scale": "scale.yaml", "workers": 1, "precision": "fp32", "shard_size": 10}
EVALUATE = {"tasks": "tasks.yaml", "data": "evalsets"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    return write_experiment(folder, write_pool(folder / "pool", 4, 1, {}), filters=["no_filter"])


@pytest.fixture
def graph(experiment: Path, tmp_path: Path) -> Any:
    """Return a maker of graphs of one experiment, with changes to how it trains and evaluates."""
    document = yaml.safe_load(experiment.read_text())

    def make(train: dict[str, Any] | None = None, evaluate: dict[str, Any] | None = None) -> Graph:
        changes = {"train": {**TRAIN, **(train or {})}, "evaluate": {**EVALUATE, **(evaluate or {})}}
        path = experiment.with_name("changed.yaml")
        path.write_text(yaml.safe_dump({**document, **changes}))
        return build_graph(load_experiment(str(path)), tmp_path / "work", device="cpu")

    return make


def units(graph: Graph, stage: str) -> list[str]:
    return [unit.name for unit in graph.units if unit.stage == stage]


def test_the_engine_is_part_of_what_a_training_and_an_evaluation_depend_on(graph: Any) -> None:
    builtin = graph().runs[0]
    datacomp = graph(train={"engine": "datacomp"}).runs[0]
    assert builtin.training != datacomp.training
    assert builtin.evaluation != datacomp.evaluation
    assert graph(evaluate={"precision": "bf16"}).runs[0].evaluation != builtin.evaluation


def test_how_an_evaluation_is_divided_does_not_change_what_it_is(graph: Any) -> None:
    whole, divided = graph(), graph(evaluate={"units": 2})
    assert whole.runs[0].evaluation == divided.runs[0].evaluation
    assert units(whole, "evaluate") == ["no_filter-seed0"]
    assert units(whole, "collect") == []
    assert units(divided, "evaluate") == ["no_filter-seed0-1of2", "no_filter-seed0-2of2"]
    assert units(divided, "collect") == ["no_filter-seed0"]
    (collect,) = (unit for unit in divided.units if unit.stage == "collect")
    assert collect.output == whole.runs[0].evaluation
    assert len(collect.needs) == 2


def test_more_units_than_sets_are_as_many_as_there_are_sets(graph: Any) -> None:
    assert len(units(graph(evaluate={"units": 9}), "evaluate")) == 2


@pytest.mark.parametrize("changes", [{"tasks": "tasks.yaml"}, {"tasks": "datacomp", "units": 2}])
def test_datacomps_script_evaluates_its_own_tasks_whole(graph: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="engine datacomp evaluates DataComp's tasks"):
        graph(evaluate={"engine": "datacomp", **changes})


def test_an_engine_that_there_is_not_is_an_error_that_lists_them(graph: Any) -> None:
    with pytest.raises(ConfigError, match=r"train.engine: .*'builtin' or 'datacomp'"):
        graph(train={"engine": "mine"})
