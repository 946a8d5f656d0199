"""`ecodatum curate ecodatum_released` from pool to subset, with small models in the assets' places."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecodatum.operators.assets import checksum
from tests.conftest import MakePool
from tests.operators.tiny_samples import save_tiny_clip
from tests.operators.tiny_transformers import save_tiny_detector, save_tiny_icc


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that put small models in the assets' places, and the files of a small CLIP."""
    folder = tmp_path_factory.mktemp("models")
    config, weights = save_tiny_clip(folder)
    return {
        "ECODATUM_ASSET_ICC": str(save_tiny_icc(folder / "icc")),
        "ECODATUM_ASSET_GROUNDING_DINO_LARGE": str(save_tiny_detector(folder / "detector")),
        "config": str(config),
        "weights": str(weights),
    }


def curate(
    folder: Path, pool: Path, variables: dict[str, str], *changes: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ecodatum", "curate", "ecodatum_released", "--pool", str(pool)]
    command += ["--out", "subset.npy", "--device", "cpu", *changes]
    environment = {**os.environ, "ECODATUM_ASSETS": str(folder / "assets"), **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_released_ensemble_runs_and_its_manifests_tell_the_replaced_files(
    make_pool: MakePool, models: dict[str, str], tmp_path: Path
) -> None:
    pool = make_pool(rows=12, parts=1, changes={3: {"image": None}, 5: {"text": ""}})
    variables = {key: value for key, value in models.items() if key.isupper()}
    clip = ["--set", f"operators.clip.model={models['config']}"]
    clip += ["--set", f"operators.clip.weights={models['weights']}"]
    done = curate(tmp_path, pool, variables, *clip)
    assert done.returncode == 0, done.stderr
    assert len(np.load(tmp_path / "subset.npy")) == 4  # int(0.4 x 12)
    for operator, variable in (("icc", "ICC"), ("grounding", "GROUNDING_DINO_LARGE")):
        (manifest,) = (tmp_path / "runs" / "scores").glob(f"{operator}@*/*.manifest.json")
        recorded = json.loads(manifest.read_text())["parameters"]["assets"]
        used = Path(models[f"ECODATUM_ASSET_{variable}"])
        assert checksum(used / "model.safetensors") in [
            sha for sums in recorded.values() for shas in sums.values() for sha in shas
        ]
    (scores,) = (tmp_path / "runs" / "scores").glob("grounding@*/*/scores.parquet")
    table = pq.read_table(scores)
    assert table.column("count_30").null_count == 1  # the dead link
    assert pq.read_schema(scores).field("boxes").type.value_type.list_size == 4


def test_missing_models_are_an_error_before_anything_runs(
    make_pool: MakePool, models: dict[str, str], tmp_path: Path
) -> None:
    done = curate(tmp_path, make_pool(rows=4, parts=1), {})
    assert done.returncode == 1
    assert "where there is a network, run: ecodatum assets fetch" in done.stderr
    assert not list((tmp_path / "runs").glob("scores/*"))
