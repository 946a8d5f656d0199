"""Scales: how much is trained and how. DataComp's are fixed; one's own are YAML and not comparable."""

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecodatum.content import find, read_yaml
from ecodatum.errors import ConfigError
from ecodatum.fingerprint import file_fingerprint
from ecodatum.operators.clip_models import config_files
from ecodatum.validation import explain

_Positive = Annotated[float, Field(gt=0)]


class Scale(BaseModel):
    """The model, the number of samples it sees, and the optimiser's settings.

    `samples_seen` counts samples over the whole training, `batch_size` over all processes and
    accumulated steps, `warmup` optimiser steps. The keys from `weight_decay` on are for scales of one's
    own; DataComp's scales leave them at open_clip's defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    model: Annotated[str, Field(description="a name of open_clip's, or a JSON file beside this one")]
    batch_size: Annotated[int, Field(gt=0)]
    samples_seen: Annotated[int, Field(gt=0)]
    learning_rate: _Positive
    warmup: Annotated[int, Field(ge=0)]
    beta2: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoints: Annotated[int, Field(gt=0)] = 5
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    grad_clip_norm: _Positive | None = None
    crop_scale: tuple[_Positive, _Positive] | None = None
    grad_checkpointing: bool = True
    folder: Annotated[Path | None, Field(exclude=True, repr=False)] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.samples_seen // self.checkpoints < self.batch_size:
            raise ValueError(
                f"samples_seen ({self.samples_seen}) over checkpoints ({self.checkpoints})"
                f" is less than one batch ({self.batch_size})"
            )
        if self.crop_scale and not self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError("crop_scale must be two shares of the image's area, the smaller first")
        return self

    @property
    def comparable(self) -> bool:
        """Whether results at this scale may stand beside DataComp's."""
        return self == FIXED.get(self.name)

    @property
    def model_or_file(self) -> str:
        """The model's name, or the path of its JSON config."""
        own = self.model.endswith(".json")
        return str((self.folder or Path()) / self.model) if own else self.model

    def identity(self) -> dict[str, Any]:
        """Return what the result of a training depends on, with the content of a model's JSON in place of
        its path, for fingerprints.
        """
        identity = self.model_dump(mode="json")
        if self.model.endswith(".json"):
            files = config_files(self.model_or_file)
            identity["model"] = [Path(self.model).stem, *map(file_fingerprint, files)]
        return identity

    def datacomp_config(self, model: str) -> dict[str, Any]:
        """Return the scale under DataComp's keys (scale_configs.py), `model` as open_clip knows it."""
        return {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "train_num_samples": self.samples_seen,
            "warmup": self.warmup,
            "model": model,
            "beta2": self.beta2,
        }


def _fixed(
    name: str, model: str, batch: int, seen: int, rate: float, warmup: int, beta2: float | None = None
) -> Scale:
    return Scale(
        name=name,
        model=model,
        batch_size=batch,
        samples_seen=seen,
        learning_rate=rate,
        warmup=warmup,
        beta2=beta2,
    )


#: DataComp's scales (scale_configs.py; arXiv 2304.14108, section 3.4 and appendix N).
FIXED: Final = {
    scale.name: scale
    for scale in (
        _fixed("debug", "ViT-B-32", 1024, 128_000, 1e-4, 500),
        _fixed("small", "ViT-B-32", 4096, 12_800_000, 5e-4, 500),
        _fixed("medium", "ViT-B-32", 4096, 128_000_000, 5e-4, 500),
        _fixed("large", "ViT-B-16", 8192, 1_280_000_000, 5e-4, 500),
        _fixed("xlarge", "ViT-L-14", 90_112, 12_800_000_000, 1e-3, 10_000, 0.95),
    )
}


def load_scale(name_or_path: str, beside: Path | None = None) -> Scale:
    """Return one of DataComp's scales by its name, or a scale of one's own from a YAML file.

    A file is looked for beside `beside` and in `experiments/`. Raises ConfigError, naming the file and
    the key, when it cannot be used.
    """
    if name_or_path in FIXED:
        return FIXED[name_or_path]
    try:
        path = find(name_or_path, "experiments", beside=beside)
    except ConfigError as error:
        raise ConfigError(
            "no such scale", where=name_or_path, todo=f"use a YAML file, or one of {', '.join(FIXED)}"
        ) from error
    content = read_yaml(path)
    if "folder" in content:
        raise ConfigError("unknown key 'folder'", where=path)
    if content.get("name") in FIXED:
        raise ConfigError(
            f"name: {content['name']!r} is one of DataComp's scales, which are fixed",
            where=path,
            todo="give a scale of your own another name",
        )
    try:
        return Scale(**content, folder=path.parent)
    except ValidationError as error:
        raise explain(error, path, Scale) from error
