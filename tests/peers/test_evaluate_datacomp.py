"""The evaluator against what DataComp's evaluate.py wrote for the same model and sets."""

import importlib.util
import json
import math
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ecodatum.evaluate.aggregate import aggregate
from ecodatum.evaluate.evaluator import evaluate
from ecodatum.evaluate.tasks import load_tasks


@pytest.fixture(scope="module")
def peer(reference: Path) -> dict[str, dict[str, Any]]:
    lines = (reference / "datacomp" / "evaluation" / "eval_results.jsonl").read_text().splitlines()
    return {line["key"]: line for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def evalsets(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evalsets")
    with tarfile.open(reference / "datacomp" / "evaluation" / "evalsets.tgz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "evalsets"


@pytest.fixture(scope="module")
def ours(
    reference: Path, evalsets: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    folder = reference / "datacomp" / "evaluation"
    results = evaluate(
        folder / "nano-ViT.json",
        folder / "nano_fp32_state_dict.pt",
        evalsets,
        load_tasks("datacomp"),
        tmp_path_factory.mktemp("results"),
        device="cpu",
        threads=1,
    )
    return {line["key"]: line for line in results}


@pytest.mark.slow
@pytest.mark.parametrize("key", [task.key for task in load_tasks("datacomp")])
def test_every_metric_equals_datacomps(
    key: str, ours: dict[str, dict[str, Any]], peer: dict[str, dict[str, Any]]
) -> None:
    assert ours[key]["dataset"] == peer[key]["dataset"]
    mine, theirs = ours[key]["metrics"], peer[key]["metrics"]
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        if value is None or math.isnan(value):
            assert mine[name] is None if value is None else math.isnan(mine[name])
        else:
            assert mine[name] == pytest.approx(value, abs=1e-6, rel=0), name


def test_aggregates_equal_datacomps_script(reference: Path, peer: dict[str, dict[str, Any]]) -> None:
    home = Path(os.environ.get("DATACOMP_HOME", ""))
    if not (home / "aggregate_scores.py").is_file() or "DATACOMP_HOME" not in os.environ:
        pytest.skip("DataComp's checkout is absent (set DATACOMP_HOME)")
    spec = importlib.util.spec_from_file_location("aggregate_scores", home / "aggregate_scores.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    theirs = script.get_aggregate_scores(str(reference / "datacomp" / "evaluation" / "eval_results.jsonl"))
    assert aggregate(peer.values(), load_tasks("datacomp")) == pytest.approx(theirs, abs=1e-15)
