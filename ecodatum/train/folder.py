"""A training's folder: whose it is, what in it can be resumed, and when it is finished."""

import json
import logging
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ecodatum.errors import RunError
from ecodatum.files import replacing, write_json
from ecodatum.train.progress import read_progress

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A finished training: its files, the samples it saw, and the seconds that this call took.

    `read_errors` counts the damaged shards and images that the trainer skipped and logged; `leads` tells
    whether this is the process that writes the files, of several that train together.
    """

    folder: Path
    checkpoint: Path
    info: Path
    samples_seen: int
    seconds: float
    resumed: bool
    read_errors: int
    leads: bool


@dataclass(frozen=True)
class TrainingFolder:
    """The files of a training, laid out as open_clip and DataComp lay them out, and our settings.json."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint; at the end, the trained model."""
        return self.path / "checkpoints" / "epoch_latest.pt"

    @property
    def info(self) -> Path:
        """DataComp's info.pkl; written last, so it says that the training is finished."""
        return self.path / "info.pkl"

    @property
    def log(self) -> Path:
        """The trainer's log."""
        return self.path / "out.log"

    @property
    def settings(self) -> Path:
        """What the training's result depends on."""
        return self.path / "settings.json"

    def claim(self, settings: Mapping[str, Any]) -> bool:
        """Take the folder for a training with `settings`; return whether there is something to go on from.

        A damaged checkpoint is set aside, and the training starts from the beginning. Raises RunError when
        the folder belongs to a training with other settings, or cannot be written to.
        """
        self._require_same(settings)
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot write here: {error.strerror or error}", where=self.checkpoint.parent
            ) from error
        write_json(self.settings, settings)
        if self.checkpoint.exists() and not _is_whole(self.checkpoint):
            aside = self.checkpoint.with_suffix(".damaged")
            self.checkpoint.replace(aside)
            _LOG.warning(
                "%s was damaged; it is now %s, and training starts anew", self.checkpoint, aside.name
            )
        if not self.checkpoint.exists():
            self.info.unlink(missing_ok=True)
            return False
        return True

    def _require_same(self, settings: Mapping[str, Any]) -> None:
        try:
            former = json.loads(self.settings.read_text())
        except FileNotFoundError:
            former = None
        except (OSError, ValueError) as error:
            raise RunError(f"cannot be read: {error}", where=self.settings) from error
        todo = "use another folder, or remove this one"
        if former is None and self.checkpoint.exists():
            raise RunError("holds a checkpoint, but not what it was trained with", where=self.path, todo=todo)
        if former is not None and former != settings:
            keys = sorted(key for key in {*former, *settings} if former.get(key) != settings.get(key))
            raise RunError(
                f"holds a training with other settings ({', '.join(keys)})", where=self.path, todo=todo
            )

    def finish(self, scale: str, config: Mapping[str, Any], data: str | Path) -> None:
        """Write info.pkl as DataComp does (train.py, `save_training_artifacts`).

        Raises RunError when there is no checkpoint, or its weights are not numbers.
        """
        if not self.checkpoint.exists():
            raise RunError("the trainer ended without a checkpoint", where=self.log)
        remote = isinstance(data, str) and ("://" in data or "::" in data)
        artifacts = {
            "scale": scale,
            "checkpoint": self.checkpoint,
            "scale_config": dict(config),
            "data_dir": data if remote else Path(data),
        }
        with replacing(self.info) as temporary:
            temporary.write_bytes(pickle.dumps(artifacts))

    def result(self, seconds: float, resumed: bool, leads: bool) -> TrainResult:
        """Return what a finished training is, as its log tells."""
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            errors = sum("Handling webdataset error" in line for line in lines)
        last = read_progress(self.log)
        return TrainResult(
            folder=self.path,
            checkpoint=self.checkpoint,
            info=self.info,
            samples_seen=last.samples_seen if last else 0,
            seconds=seconds,
            resumed=resumed,
            read_errors=errors,
            leads=leads,
        )


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is as it was written; torch stores checksums, but does not read them."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return False
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return False
    return isinstance(content, dict) and {"epoch", "state_dict", "optimizer"} <= content.keys()
