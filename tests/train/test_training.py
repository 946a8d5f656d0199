"""Training end to end: files, repeatability, resumption, and what goes wrong."""

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ecodatum.errors import ConfigError, PoolError, RunError
from ecodatum.pool.shards import ShardWriter
from ecodatum.train import compatibility
from ecodatum.train.folder import TrainResult
from ecodatum.train.progress import Progress, training_curve
from ecodatum.train.scales import Scale, load_scale
from ecodatum.train.training import train
from tests.train.tiny_training import make_scale, make_shards

WORKERS = 2

#: Runs a training in a process that can be killed, slowed so that there is time to.
SCRIPT = """
import sys, time
from pathlib import Path
from ecodatum.train.scales import load_scale
from ecodatum.train.training import train
scale, data, out = sys.argv[1:]
train(load_scale(scale), data, Path(out), seed=5, workers=2, device="cpu", log_every=1,
      on_progress=lambda progress: time.sleep(0.2))
"""


def run(scale: Scale, shards: Path, out: Path, seed: int = 5, workers: int = WORKERS) -> TrainResult:
    return train(scale, shards, out, seed=seed, workers=workers, device="cpu", log_every=1)


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    state = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    return dict(state)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def scale_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scale(tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="module")
def scale(scale_file: Path) -> Scale:
    return load_scale(str(scale_file))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def trained(scale: Scale, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(scale, shards, tmp_path_factory.mktemp("trained"))


def test_files_are_laid_out_as_datacomp_lays_them_out(trained: TrainResult, shards: Path) -> None:
    assert trained.folder.name == "tiny_scale"
    assert {path.name for path in trained.folder.iterdir()} >= {"checkpoints", "info.pkl", "out.log"}
    info = pickle.loads(trained.info.read_bytes())
    assert info["scale"] == "tiny"
    assert info["checkpoint"] == trained.folder / "checkpoints" / "epoch_latest.pt"
    assert info["data_dir"] == shards
    assert info["scale_config"] == {
        "batch_size": 8,
        "learning_rate": 1e-3,
        "train_num_samples": 240,
        "warmup": 2,
        "model": "tiny-clip",
        "beta2": None,
    }


def test_a_second_run_with_the_seed_gives_the_same_bits(
    trained: TrainResult, scale: Scale, shards: Path, tmp_path: Path
) -> None:
    again = run(scale, shards, tmp_path)
    assert same(weights(trained), weights(again))
    columns = ["step", "samples_seen", "loss", "learning_rate"]
    assert training_curve(trained.folder)[columns].equals(training_curve(again.folder)[columns])


def test_another_seed_gives_other_weights(
    trained: TrainResult, scale: Scale, shards: Path, tmp_path: Path
) -> None:
    assert not same(weights(trained), weights(run(scale, shards, tmp_path, seed=6)))


def test_a_run_without_loader_processes_is_repeatable_too(scale: Scale, shards: Path, tmp_path: Path) -> None:
    one, other = (run(scale, shards, tmp_path / name, workers=0) for name in ("one", "other"))
    assert same(weights(one), weights(other))


@pytest.mark.slow
def test_killed_after_a_checkpoint_and_resumed_gives_the_same_bits(
    trained: TrainResult, scale_file: Path, scale: Scale, shards: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(scale_file), str(shards), str(tmp_path)], start_new_session=True
    )
    checkpoint = tmp_path / "tiny_scale" / "checkpoints" / "epoch_latest.pt"
    try:
        while not checkpoint.exists():
            assert process.poll() is None, "the training ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "tiny_scale" / "info.pkl").exists()

    resumed = run(scale, shards, tmp_path)

    assert resumed.resumed
    assert same(weights(trained), weights(resumed))
    assert training_curve(resumed.folder)["loss"].equals(training_curve(trained.folder)["loss"])


def test_a_finished_training_is_not_run_again(trained: TrainResult, scale: Scale, shards: Path) -> None:
    before = trained.checkpoint.stat().st_mtime_ns
    again = run(scale, shards, trained.folder.parent)
    assert trained.checkpoint.stat().st_mtime_ns == before
    assert again.samples_seen == trained.samples_seen == 240


def test_a_folder_of_another_training_is_refused(trained: TrainResult, scale: Scale, shards: Path) -> None:
    with pytest.raises(RunError, match=r"other settings \(seed\)"):
        run(scale, shards, trained.folder.parent, seed=6)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, path.stat().st_size // 2), flip_a_byte])
def test_a_damaged_checkpoint_is_set_aside_and_training_starts_anew(
    damage: Callable[[Path], None],
    trained: TrainResult,
    scale: Scale,
    shards: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "tiny_scale"
    shutil.copytree(trained.folder, folder)
    checkpoint = folder / "checkpoints" / "epoch_latest.pt"
    damage(checkpoint)
    with caplog.at_level(logging.WARNING):
        again = run(scale, shards, tmp_path)
    assert "was damaged" in caplog.text
    assert not again.resumed
    assert same(weights(trained), weights(again))


def test_the_curve_has_each_logged_step_once(trained: TrainResult) -> None:
    curve = training_curve(trained.folder)
    assert list(curve["step"]) == list(range(1, 31))
    assert list(curve["samples_seen"]) == list(range(8, 241, 8))
    assert np.isfinite(curve["loss"]).all()


def test_progress_is_handed_on_as_it_is_logged(scale: Scale, shards: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(scale, shards, tmp_path, workers=1, device="cpu", log_every=5, on_progress=seen.append)
    assert [progress.samples_seen for progress in seen][-1] == 240
    assert seen[0].samples_seen == 8


def test_the_trainer_is_left_as_it_was_found(trained: TrainResult) -> None:
    import open_clip_train.data
    import open_clip_train.main

    assert open_clip_train.main.get_data.__module__ == "open_clip_train.data"
    assert open_clip_train.main.train_one_epoch.__module__ == "open_clip_train.train"
    assert open_clip_train.data.tar_file_expander.__module__ == "webdataset.tariterators"
    assert not any(type(handler) is logging.FileHandler for handler in logging.root.handlers)


def test_a_loss_that_is_no_number_ends_the_training(scale: Scale, shards: Path, tmp_path: Path) -> None:
    wild = scale.model_copy(
        update={"learning_rate": 1e30, "warmup": 0, "grad_clip_norm": None, "weight_decay": 0.0}
    )
    with pytest.raises(RunError, match=r"loss is nan|not numbers"):
        run(wild, shards, tmp_path)
    assert not (tmp_path / "tiny_scale" / "info.pkl").exists()


def test_an_empty_folder_of_shards_is_an_error(scale: Scale, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no shards"):
        run(scale, tmp_path, tmp_path / "out")


def test_shards_without_a_pair_are_an_error_and_not_a_hang(scale: Scale, tmp_path: Path) -> None:
    with (tmp_path / "00000000.tar").open("wb") as file:
        writer = ShardWriter(file)
        writer.write("0", {"png": b"no image", "txt": b"a caption"})
        writer.close()
    with pytest.raises(PoolError, match="no sample in 1 shards"):
        run(scale, tmp_path, tmp_path / "out")


def test_an_unwritable_folder_is_an_error(scale: Scale, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write here|cannot be read"):
        run(scale, shards, tmp_path / "file")


def test_damaged_images_are_skipped_and_counted(scale: Scale, shards: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    with (data / "00000003.tar").open("wb") as file:
        writer = ShardWriter(file)
        writer.write("0", {"png": b"no image", "txt": b"a caption"})
        writer.close()
    assert run(scale, data, tmp_path / "out").read_errors > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_an_error(scale: Scale, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        train(scale, shards, tmp_path, device="cuda")


def test_end_of_tar_marks_of_later_webdatasets_are_left_out() -> None:
    def expander(data: object) -> list[dict[str, object]]:
        return [{"fname": "a.txt"}, {}, {"fname": "b.txt"}, {}]

    members = list(compatibility.tar_members(expander)(None))
    assert members == [{"fname": "a.txt"}, {"fname": "b.txt"}]
