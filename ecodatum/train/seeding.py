"""Makes open_clip's data loading a function of (seed, epoch, worker), so that a resumed run is the same run.

As shipped, it shuffles samples by a generator that is seeded from the process id and the clock, and its
workers carry their random state from epoch to epoch, which a resumed training cannot know.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import webdataset
from open_clip_train.data import DataInfo, ResampledShards2, SharedEpoch
from webdataset.filters import _shuffle

from ecodatum.errors import RunError


@dataclass(frozen=True)
class Seed:
    """The seed of one process's data: of the training, and the process's rank."""

    seed: int
    rank: int

    def draw(self, *stream: int) -> int:
        """Return a 63-bit seed for a stream, e.g. of an epoch; its own in every loader worker."""
        worker = torch.utils.data.get_worker_info()
        index = 0 if worker is None else worker.id + 1
        state = np.random.SeedSequence([self.seed, self.rank, index, *stream]).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(1))

    def shards(self) -> int:
        """Return the seed that open_clip's resampling of shards adds the epoch's number to."""
        return self.draw()


class SeededShuffle(webdataset.PipelineStage):  # type: ignore[misc]
    """Shuffles samples in a buffer; at the start of an epoch, seeds all that augmentation draws from."""

    def __init__(self, seed: Seed, epoch: SharedEpoch, buffer: int, initial: int) -> None:
        self.seed, self.epoch, self.buffer, self.initial = seed, epoch, buffer, initial

    def run(self, source: Iterable[Any]) -> Iterator[Any]:
        """Yield the samples of `source` in an order that depends on (seed, rank, epoch, worker)."""
        epoch = self.epoch.get_value()
        seed_everything(self.seed.draw(epoch, 1))
        order = random.Random(self.seed.draw(epoch, 2))
        return _shuffle(iter(source), self.buffer, self.initial, order)  # type: ignore[no-any-return]


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (what is seeded here is what others draw from)
    torch.manual_seed(seed)


def make_deterministic(data: DataInfo, seed: Seed) -> None:
    """Replace the unseeded stages of open_clip's training data in place.

    Raises RunError when the loader isn't built as open_clip_train 3.3 builds it.
    """
    stages = data.dataloader.pipeline[0].dataset.pipeline
    shuffles = [i for i, stage in enumerate(stages) if getattr(stage, "f", None) is _shuffle]
    if len(shuffles) != 1 or not isinstance(stages[0], ResampledShards2):
        raise RunError(
            "open_clip_train builds its data in a way that is not known here",
            todo="install the tested version of open_clip_torch",
        )
    stages[0].worker_seed = seed.shards
    options = stages[shuffles[0]].kw
    stages[shuffles[0]] = SeededShuffle(seed, data.shared_epoch, options["bufsize"], options["initial"])
