"""Bad input ends in one clear message and a non-zero exit, never in a traceback."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ecodatum.pool.subsets import read_subset
from tests.conftest import MakePool

RECIPE: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "source": "a test",
    "operators": {"image_quality": {}},
    "rules": [{"score": "image_quality.dark", "above": 0.1}],
}


def curate(
    folder: Path, pool: Path, recipe: dict[str, Any] | str, *more: str
) -> subprocess.CompletedProcess[str]:
    name = recipe
    if isinstance(recipe, dict):
        name = str(folder / "mine.yaml")
        Path(name).write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "ecodatum", "curate", str(name), "--pool", str(pool)]
    command += ["--out", str(folder / "out.npy"), "--work", str(folder / "work"), *more]
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=120)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in (0, -9), done.stdout
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_unknown_operator(make_pool: MakePool, tmp_path: Path) -> None:
    recipe = {
        **RECIPE,
        "operators": {"image_qualty": {}},
        "rules": [{"score": "image_qualty.dark", "above": 0}],
    }
    assert_refused(
        curate(tmp_path, make_pool(), recipe), "unknown operator 'image_qualty'", "known operators"
    )


def test_misspelt_key(make_pool: MakePool, tmp_path: Path) -> None:
    recipe = {**RECIPE, "rule": RECIPE["rules"]}
    assert_refused(curate(tmp_path, make_pool(), recipe), "mine.yaml", "'rule'", "did you mean 'rules'")


def test_misspelt_parameter(make_pool: MakePool, tmp_path: Path) -> None:
    recipe = {**RECIPE, "operators": {"image_quality": {}, "clip": {"wieghts": "x.pt"}}}
    assert_refused(curate(tmp_path, make_pool(), recipe), "'wieghts'", "did you mean 'weights'")


def test_threshold_of_the_wrong_type(make_pool: MakePool, tmp_path: Path) -> None:
    done = curate(tmp_path, make_pool(), "clip_score", "--set", "rules.0.at_least=high")
    assert_refused(done, "rules.0.at_least", "should be a number", "'high'")


def test_missing_column(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    for file in (pool / "metadata").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop(["clip_l14_similarity_score"]), file)
    done = curate(tmp_path, pool, "clip_score")
    assert_refused(done, "no column clip_l14_similarity_score", "it has: uid")


def test_a_pool_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(curate(tmp_path, tmp_path / "nowhere", "no_filter"), "no pool here", "nowhere")


def test_truncated_tar(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    tar = pool / "shards" / "00000001.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    assert_refused(curate(tmp_path, pool, RECIPE), "00000001.tar", "truncated", "not started")


def test_truncated_parquet(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    file = next((pool / "metadata").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:700])
    assert_refused(curate(tmp_path, pool, "no_filter"), file.name, "cannot be read as parquet")


def test_corrupt_images_are_scored_null_counted_and_named(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        changes={3: {"image": b"\xff\xd8\xff\xe0 no JPEG"}, 7: {"image": b""}, 9: {"image": None}}
    )
    done = curate(tmp_path, pool, RECIPE)
    assert done.returncode == 0, done.stderr
    assert "2 samples could not be scored" in done.stderr and "cannot decode" in done.stderr
    assert len(read_subset(tmp_path / "out.npy")) == 48 - 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: see the test with a file in the way")
def test_unwritable_folder(make_pool: MakePool, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir(mode=0o500)
    assert_refused(curate(tmp_path, make_pool(), "no_filter"), "cannot write here")


def test_a_file_where_a_folder_should_be(make_pool: MakePool, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("in the way")
    assert_refused(curate(tmp_path, make_pool(), "no_filter"), "cannot write here", "--work")


def test_an_output_that_cannot_be_written(make_pool: MakePool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = curate(tmp_path, make_pool(), "no_filter", "--out", str(tmp_path / "file" / "out.npy"))
    assert_refused(done, "cannot write here")


def test_an_empty_selection(make_pool: MakePool, tmp_path: Path) -> None:
    done = curate(tmp_path, make_pool(), "clip_score", "--set", "rules.0.at_least=0.99")
    assert_refused(done, "the selection is empty", "0 of 48")
    assert not (tmp_path / "out.npy").exists()


def test_an_experiment_with_a_misspelt_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\npool: x\nfliters: [no_filter]\n")
    command = [sys.executable, "-m", "ecodatum", "plan", str(path)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)
    assert_refused(done, "mine.yaml", "'fliters'", "did you mean 'filters'")


def test_a_metadata_filter_does_not_import_torch(make_pool: MakePool, tmp_path: Path) -> None:
    code = (
        "import sys; from ecodatum.cli import main\n"
        f"sys.argv = ['ecodatum', 'curate', 'basic_filter', '--pool', {str(make_pool())!r},"
        f" '--out', {str(tmp_path / 'o.npy')!r}, '--work', {str(tmp_path / 'w')!r}]\n"
        "main()\nassert 'torch' not in sys.modules and 'wandb' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "o.npy").size > 0
