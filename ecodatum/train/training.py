"""Trains CLIP at a scale with open_clip's own trainer: the same weights each time, also when interrupted."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import open_clip_train.data as trainer_data
import open_clip_train.main as trainer
import torch
from open_clip_train.distributed import world_info_from_env

from ecodatum.errors import RunError
from ecodatum.operators.clip_models import choose_device, cpu_threads, register
from ecodatum.train import compatibility
from ecodatum.train.arguments import open_clip_arguments
from ecodatum.train.folder import TrainingFolder, TrainResult
from ecodatum.train.progress import Progress, parse_line
from ecodatum.train.readable import data_identity
from ecodatum.train.scales import Scale
from ecodatum.train.seeding import Seed, make_deterministic, seed_everything

#: How open_clip_train writes out.log.
_FORMAT: Final = "%(asctime)s | %(levelname)s | %(message)s"
_DATE_FORMAT: Final = "%Y-%m-%d,%H:%M:%S"


def train(
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
    threads: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train at `scale` on the shards in `data`, and write checkpoints, log and info.pkl to `out/name`.

    `data` and `weights` are as for `input_shards`; `workers` are loader processes per training process;
    `precision` is open_clip's (`amp`, which is float16 on a GPU, means `fp32` on the CPU); `name` is by
    default `<scale>_scale`, as in DataComp; `threads` are torch's on the CPU; `on_progress` is called
    with each line that the trainer logs. Under torchrun or srun, each process calls this.

    A training that was interrupted goes on from its last checkpoint, and on the CPU ends with the same
    weights, bit for bit, as one that was not. A finished one is not run again.

    Raises RunError when the loss stops being a number, or the folder holds a training with other settings
    or cannot be written to; PoolError when there is nothing to train on. Source: DataComp train.py.
    """
    started = time.monotonic()
    device = choose_device(device)
    if device == "cpu" and precision == "amp":
        precision = "fp32"
    model = register(scale.model, scale.folder)
    folder = TrainingFolder(out / (name or f"{scale.name}_scale"))
    _, rank, world_size = world_info_from_env()
    arguments = open_clip_arguments(
        scale,
        data,
        out,
        model=model,
        name=folder.path.name,
        seed=seed,
        precision=precision,
        workers=workers,
        world_size=world_size,
        accumulation=accumulation,
        weights=weights,
        log_every=log_every,
    )
    settings = {
        "scale": scale.identity(),
        "seed": seed,
        "device": torch.device(device).type,
        "precision": precision,
        "workers": workers,
        "accumulation": accumulation,
        "world_size": world_size,
    }
    resumed = rank == 0 and folder.claim({**settings, "data": data_identity(data, weights)})
    if not folder.info.exists():
        limit = cpu_threads(threads if device == "cpu" else None)
        with limit, compatibility.parallel_on_cpu(), _patched(Seed(seed, rank), on_progress):
            _run([*arguments, "--device", device], folder)
        if rank == 0:
            folder.finish(scale.name, scale.datacomp_config(model), data)
    return folder.result(time.monotonic() - started, resumed, leads=rank == 0)


def _run(arguments: list[str], folder: TrainingFolder) -> None:
    try:
        status = trainer.main(arguments)
    except OSError as error:
        raise RunError(f"training failed: {error}", where=folder.path) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):
            raise
        raise RunError(
            "a checkpoint could not be written", where=folder.checkpoint, todo="is the disk full?"
        ) from error
    if status == -1:
        raise RunError("the trainer refused to run", where=folder.log)


class _Watch(logging.Handler):
    """Hands on what the trainer logs, and ends a training whose loss is no longer a number."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        super().__init__()
        self.on_progress = on_progress

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line of the trainer's log."""
        progress = parse_line(record.getMessage())
        if progress is None:
            return
        if progress.diverged:
            raise RunError(
                f"the loss is {progress.loss} after {progress.samples_seen} samples",
                where="training",
                todo="lower the learning rate, or raise the warm-up",
            )
        if self.on_progress is not None:
            self.on_progress(progress)


@contextlib.contextmanager
def _patched(seed: Seed, on_progress: Callable[[Progress], None] | None) -> Iterator[None]:
    """Make open_clip's trainer seed what it draws, notice divergence, and log to out.log alone."""
    get_data, train_one_epoch = trainer.get_data, trainer.train_one_epoch
    setup_logging, expander = trainer.setup_logging, trainer_data.tar_file_expander
    handlers, level = list(logging.root.handlers), logging.root.level

    def seeded_data(*arguments: Any, **options: Any) -> Any:
        data = get_data(*arguments, **options)
        make_deterministic(data["train"], seed)
        return data

    def checked_epoch(
        model: torch.nn.Module, data: Any, loss: Any, epoch: int, *rest: Any, **kw: Any
    ) -> None:
        seed_everything(seed.draw(epoch))
        train_one_epoch(model, data, loss, epoch, *rest, **kw)
        if not all(bool(value.isfinite().all()) for value in model.parameters()):
            raise RunError(f"weights are not numbers after epoch {epoch + 1}", where="training")

    def log_to_file(log: str | None, log_level: int) -> None:
        logging.root.setLevel(log_level)
        if log is not None:
            file = logging.FileHandler(log)
            file.setFormatter(logging.Formatter(_FORMAT, _DATE_FORMAT))
            logging.root.addHandler(file)
            logging.root.addHandler(_Watch(on_progress))

    trainer.get_data, trainer.train_one_epoch = seeded_data, checked_epoch
    trainer.setup_logging = log_to_file
    trainer_data.tar_file_expander = compatibility.tar_members(expander)
    try:
        yield
    finally:
        trainer.get_data, trainer.train_one_epoch = get_data, train_one_epoch
        trainer.setup_logging, trainer_data.tar_file_expander = setup_logging, expander
        for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
            logging.root.removeHandler(handler)
            handler.close()
        logging.root.setLevel(level)
