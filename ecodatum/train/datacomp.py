"""Trains with DataComp's own train.py: the same arguments for open_clip, the same files."""

import time
from collections.abc import Callable
from pathlib import Path

import open_clip
from open_clip_train.distributed import world_info_from_env

from ecodatum.datacomp import scripts
from ecodatum.datacomp.checkout import find_checkout
from ecodatum.datacomp.scripts import OwnScale
from ecodatum.errors import RunError
from ecodatum.operators.clip_models import choose_device, register
from ecodatum.train.arguments import arguments_beyond_datacomp, open_clip_arguments
from ecodatum.train.folder import TrainingFolder, TrainResult
from ecodatum.train.progress import Progress, read_progress
from ecodatum.train.readable import data_identity
from ecodatum.train.scales import FIXED, Scale


def train_with_datacomp(
    scale: Scale,
    data: str | Path,
    out: Path,
    *,
    seed: int = 0,
    workers: int = 4,
    precision: str = "amp",
    device: str = "auto",
    name: str | None = None,
    accumulation: int = 1,
    weights: str | None = None,
    log_every: int = 100,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train as `ecodatum.train.training.train` does, but by DataComp's unmodified train.py.

    The arguments and the files are the same. An interrupted training goes on from its last checkpoint;
    weights differ from run to run, since train.py does not seed the order of samples.

    Raises AssetError when DataComp's pinned checkout is not here, RunError when the script fails or the
    loss stops being a number, PoolError when there is nothing to train on.
    """
    started = time.monotonic()
    checkout = find_checkout()
    checkout.require_pinned()
    device = choose_device(device)
    if device == "cpu" and precision == "amp":
        precision = "fp32"
    model = register(scale.model, scale.folder)
    folder = TrainingFolder(out / (name or f"{scale.name}_scale"))
    _, rank, world_size = world_info_from_env()
    settings = {
        "engine": "datacomp",
        "scale": scale.identity(),
        "seed": seed,
        "device": device.partition(":")[0],
        "precision": precision,
        "workers": workers,
        "accumulation": accumulation,
        "world_size": world_size,
    }
    # Built for its checks alone: train.py neither sees a gap among the shards nor a batch that won't divide.
    open_clip_arguments(
        scale,
        data,
        out,
        model=model,
        name=folder.path.name,
        world_size=world_size,
        accumulation=accumulation,
        weights=weights,
    )
    resumed = rank == 0 and folder.claim({**settings, "data": data_identity(data, weights)})
    if not folder.info.exists():
        options = {
            "--scale": scale.name,
            "--data_dir": data,
            "--data_weights": weights,
            "--output_dir": out,
            "--exp_name": folder.path.name,
            "--workers": workers,
            "--precision": precision,
            "--num_checkpoints": scale.checkpoints,
            "--seed": seed,
            "--accum_freq": accumulation,
            "--log_every_n_steps": log_every,
            "--grad_clip_norm": scale.grad_clip_norm,
        }
        scripts.run(
            checkout,
            "train.py",
            [text for option, value in options.items() if value is not None for text in (option, str(value))],
            own_scale=None if scale.name in FIXED else _own_scale(scale, model).write(folder.path),
            on_cpu=device == "cpu",
            watch=_Watch(folder, on_progress),
        )
    return folder.result(time.monotonic() - started, resumed, leads=rank == 0)


def _own_scale(scale: Scale, model: str) -> OwnScale:
    config = (model, open_clip.get_model_config(model)) if scale.model.endswith(".json") else None
    return OwnScale(
        name=scale.name,
        config=scale.datacomp_config(model),
        model=config,
        arguments=tuple(arguments_beyond_datacomp(scale)),
        without=() if scale.grad_checkpointing else ("--grad-checkpointing",),
    )


class _Watch:
    """Hands on what the log says, and ends a training whose loss is no longer a number."""

    def __init__(self, folder: TrainingFolder, on_progress: Callable[[Progress], None] | None) -> None:
        self._log, self._on_progress = folder.log, on_progress
        self._last = read_progress(folder.log)

    def __call__(self) -> None:
        progress = read_progress(self._log)
        if progress is None or progress == self._last:
            return
        self._last = progress
        if progress.diverged:
            raise RunError(
                f"the loss is {progress.loss} after {progress.samples_seen} samples",
                where=self._log,
                todo="lower the learning rate, or raise the warm-up",
            )
        if self._on_progress is not None:
            self._on_progress(progress)
