"""The two engines that train: ours around open_clip's trainer, and DataComp's own script."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ecodatum.train.scales import Scale

if TYPE_CHECKING:
    from ecodatum.train.folder import TrainResult
    from ecodatum.train.progress import Progress

#: `builtin` repeats to the bit and resumes so; `datacomp` is the benchmark's own train.py, unmodified.
Engine = Literal["builtin", "datacomp"]


class Train(Protocol):
    """What both engines can do; see `ecodatum.train.training.train` for the arguments."""

    def __call__(
        self,
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
        on_progress: "Callable[[Progress], None] | None" = None,
    ) -> "TrainResult":
        """Train, or go on from the last checkpoint."""
        ...


def trainer(engine: Engine) -> Train:
    """Return the function that trains with an engine."""
    if engine == "datacomp":
        from ecodatum.train.datacomp import train_with_datacomp

        return train_with_datacomp
    from ecodatum.train.training import train

    return train
