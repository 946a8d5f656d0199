"""A whole experiment, unchanged, on a real Slurm: the same bytes as on this machine, also when disturbed."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from ecodatum.pipeline.attempts import read_attempt
from tests.conftest import write_pool
from tests.pipeline.small_experiment import write_experiment
from tests.pipeline.test_run import contents, ecodatum
from tests.slurm.conftest import PrivateSlurm, ended, until


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    return write_experiment(folder, write_pool(folder / "pool", 24, 2, {5: {"image": None}}))


def write_profile(folder: Path, **changes: object) -> Path:
    path = folder / "cluster.yaml"
    default = {"memory_gb": 1, "hours": 1, "parallel": 4}
    path.write_text(
        yaml.safe_dump({"signal_seconds": 30, "visible_after_seconds": 0, "default": default, **changes})
    )
    return path


def done(*arguments: object) -> subprocess.CompletedProcess[str]:
    process = ecodatum(*arguments)
    assert process.returncode == 0, process.stderr
    return process


def kill_while_it_trains(work: Path, name: str) -> None:
    """Kill a training's first process after its first checkpoint."""
    log = work / "small" / "logs" / "train" / f"{name}.log"
    until(lambda: list(work.glob(f"trainings/{name}@*.partial-*/training/checkpoints/epoch_*.pt")))
    attempt = read_attempt(log)
    assert attempt is not None
    os.kill(attempt.pid, signal.SIGKILL)


@pytest.mark.slow
def test_an_experiment_on_slurm_equals_the_local_run_also_when_killed(
    slurm: PrivateSlurm, experiment: Path, tmp_path: Path
) -> None:
    cluster = write_profile(tmp_path, stages={"train": {"cpus": 2, "sbatch": {"nice": True}}})
    here, there = tmp_path / "here", tmp_path / "there"
    planned = done("plan", experiment, "--work", there, "--cluster", cluster)
    assert "GPU hours" in planned.stdout and not there.joinpath("small").exists()
    submitted = done("run", experiment, "--work", there, "--cluster", cluster)
    assert "0 under way" in submitted.stderr
    again = done("run", experiment, "--work", there, "--cluster", cluster)
    assert " 0 submitted" in again.stderr
    kill_while_it_trains(there, "clip_score-seed0")
    done("run", experiment, "--work", there, "--cluster", cluster, "--watch")
    done("run", experiment, "--work", here)
    assert contents(there) == contents(here)
    assert "resumed" in next(there.glob("trainings/clip_score-*.manifest.json")).read_text()
    status = done("status", experiment, "--work", there).stdout
    assert re.search(r"train\W+0\W+0\W+3\W", status)


@pytest.mark.slow
def test_a_training_over_two_processes_goes_on_to_the_same_weights(
    slurm: PrivateSlurm, experiment: Path, tmp_path: Path
) -> None:
    cluster = write_profile(tmp_path, stages={"train": {"processes": 2}})
    folder = tmp_path / "experiment"
    shutil.copytree(experiment.parent, folder, ignore=shutil.ignore_patterns("pool"))
    one = folder / experiment.name
    one.write_text(yaml.safe_dump({**yaml.safe_load(one.read_text()), "filters": ["no_filter"]}))
    works = [tmp_path / "undisturbed", tmp_path / "disturbed"]
    for work in works:
        done("run", one, "--work", work, "--cluster", cluster)
    kill_while_it_trains(works[1], "no_filter-seed0")
    weights = []
    for work in works:
        assert not ended(work, "small").of("failed", "blocked", "cancelled", "pending")
        (checkpoint,) = work.glob("trainings/*/training/checkpoints/epoch_latest.pt")
        weights.append(torch.load(checkpoint, weights_only=True)["state_dict"])
        assert '"world_size": 2' in (checkpoint.parent.parent / "settings.json").read_text()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "No filtering" in done("table", one, "--work", works[1]).stdout  # knows that two trained it
    alone = done("plan", one, "--work", works[1], "--device", "cpu", "--units").stdout
    assert re.search(r"no_filter-seed0\W+to run", alone)  # one process gives another training


def test_a_failure_is_shown_with_its_log_and_mended_by_a_retry(
    slurm: PrivateSlurm, experiment: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(experiment.parent / "pool", pool)
    tar = pool / "shards" / "00000003.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:9000])
    folder = tmp_path / "experiment"
    shutil.copytree(experiment.parent, folder, ignore=shutil.ignore_patterns("pool"))
    one = folder / experiment.name
    changed = {**yaml.safe_load(one.read_text()), "filters": ["no_filter"], "pool": str(pool)}
    one.write_text(yaml.safe_dump(changed))
    work = tmp_path / "work"
    failed = ecodatum("run", one, "--work", work, "--cluster", write_profile(tmp_path), "--watch")
    assert failed.returncode == 1 and "ecodatum retry small" in failed.stderr
    told = done("status", "small", "--work", work)
    assert "00000003.tar" in told.stderr and "failed: reshard" in told.stderr
    assert "needs reshard/" in told.stderr and "blocked: train" in told.stderr
    assert "damaged shard" in done("logs", "small", "--work", work).stdout
    assert "small" in done("status", "--work", work).stdout
    nothing = ecodatum("status", "other", "--work", work)
    assert nothing.returncode == 1 and "there are: small" in nothing.stderr
    tar.write_bytes(whole)
    done("retry", "small", "--work", work)
    assert "cancelled" in done("cancel", "small", "--work", work).stderr
    done("retry", "small", "--work", work, "--watch")


def test_a_reshard_as_an_array_equals_the_local_one_and_goes_on_after_a_failure(
    slurm: PrivateSlurm, experiment: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(experiment.parent / "pool", pool)
    subset = tmp_path / "all.npy"
    done("curate", "no_filter", "--pool", pool, "--out", subset, "--work", tmp_path / "work")
    given = ("reshard", "--pool", pool, "--subset", subset, "--shard-size", 10, "--work", tmp_path / "work")
    tar = pool / "shards" / "00000003.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:9000])
    cluster = write_profile(tmp_path)
    failed = ecodatum(*given, "--out", tmp_path / "there", "--cluster", cluster)
    assert failed.returncode == 1 and "00000003.tar" in failed.stderr
    assert "give the same command again" in failed.stderr
    tar.write_bytes(whole)
    done(*given, "--out", tmp_path / "there", "--cluster", cluster)
    done(*given, "--out", tmp_path / "here")
    shards = {path.name: path.read_bytes() for path in (tmp_path / "here").rglob("*.tar")}
    assert shards == {path.name: path.read_bytes() for path in (tmp_path / "there").rglob("*.tar")} != {}
