"""Operators: samples in, score columns out. They know nothing of thresholds, files or pools."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from ecodatum.errors import ConfigError
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.operators.assets import checksum
from ecodatum.validation import explain

#: Where each operator's class lies, in the form of an entry point, so that naming one imports it alone.
OPERATORS: Final[Mapping[str, str]] = {
    "caption": "ecodatum.operators.caption:Caption",
    "caption_hash": "ecodatum.operators.caption_hash:CaptionHash",
    "centroid": "ecodatum.operators.centroid:Centroid",
    "clip": "ecodatum.operators.clip:Clip",
    "cluster": "ecodatum.operators.cluster:Cluster",
    "gcld3_language": "ecodatum.operators.gcld3_language:Gcld3Language",
    "grounding": "ecodatum.operators.grounding:Grounding",
    "icc": "ecodatum.operators.icc:Icc",
    "image_quality": "ecodatum.operators.image_quality:ImageQuality",
    "image_size": "ecodatum.operators.metadata:ImageSize",
    "language": "ecodatum.operators.language:Language",
    "metadata": "ecodatum.operators.metadata:Metadata",
    "negcliploss": "ecodatum.operators.negcliploss:NegClipLoss",
    "normsim": "ecodatum.operators.normsim:NormSim",
    "perceptual_hash": "ecodatum.operators.perceptual_hash:PerceptualHash",
    "repetition": "ecodatum.operators.repetition:Repetition",
    "tokens": "ecodatum.operators.tokens:Tokens",
    "wordnet": "ecodatum.operators.wordnet:Wordnet",
}

#: The entry point group in which other distributions declare operators: `name = "package.module:Class"`.
GROUP: Final = "ecodatum.operators"


class Parameters(BaseModel):
    """The settings of an operator; an operator without any takes this as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class Column:
    """A score column: its arrow type, what it means, and the range that no score leaves."""

    name: str
    type: pa.DataType
    meaning: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fault:
    """The rows of a batch, (k,) positions, that have a null score for the same reason."""

    rows: npt.NDArray[np.intp]
    reason: str


@dataclass(frozen=True)
class Scores:
    """What an operator makes of a batch: one row of scores a sample, and why some are null."""

    values: pa.RecordBatch
    faults: tuple[Fault, ...] = ()


class Operator(ABC):
    """What all operators declare. Derive from the class of what yours reads, below."""

    name: ClassVar[str]
    version: ClassVar[int]
    reads: ClassVar[Literal["metadata", "embeddings", "image"]]
    runs_on: ClassVar[Literal["cpu", "gpu"]] = "cpu"
    parameters_type: ClassVar[type[Parameters]] = Parameters

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """The score columns, in their order."""

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The files behind a parameter, by its name: they count for the fingerprint, their paths don't."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """A hash over what the scores depend on; neither device nor batch size belongs to it."""
        files = {key: [file_fingerprint(path) for path in paths] for key, paths in self.assets.items()}
        plain = self._parameters.model_dump(mode="json", exclude=set(files))
        return fingerprint([self.name, self.version, plain, files])

    def checksums(self) -> dict[str, list[str]]:
        """Return the sha256 of each file behind a parameter, whole, by the parameter's name."""
        return {key: [checksum(path) for path in paths] for key, paths in self.assets.items()}

    def prepare(self, device: str) -> None:  # noqa: B027 - most operators have nothing to load
        """Load what scoring needs, once, before the first batch. `device`: `cpu` or `cuda`."""

    def scores(self, columns: Mapping[str, Any], *faults: Fault | None) -> Scores:
        """Pack score arrays, by column name and each (n,), in the declared types."""
        arrays = [pa.array(columns[column.name], column.type) for column in self.columns]
        values = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in self.columns])
        return Scores(values, tuple(fault for fault in faults if fault is not None))


class MetadataOperator(Operator):
    """An operator over columns of the pool's metadata."""

    reads = "metadata"

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The metadata columns that it needs."""

    @abstractmethod
    def score(self, batch: pa.RecordBatch) -> Scores:
        """Score a batch that has the columns `inputs`."""


class EmbeddingsOperator(Operator):
    """An operator over the pool's embeddings."""

    reads = "embeddings"

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The arrays of the npz that it needs."""

    def rows_at_once(self, rows: int) -> int:
        """Return how many consecutive rows of a part of `rows` each call of `score` gets, the last fewer.

        For operators whose scores depend on the rows that are seen together.
        """
        return 8192

    @abstractmethod
    def score(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Scores:
        """Score some rows of the arrays `inputs`, each (n, width)."""


@dataclass(frozen=True)
class ImageBatch:
    """Samples of a shard: what the operator's `view` made of each image, and the captions."""

    views: list[Any]
    captions: list[str | None]


class ImageOperator(Operator):
    """An operator over images. An image is decoded once for all of them, and looked at in a thread."""

    reads = "image"

    @abstractmethod
    def view(self, image: Image.Image) -> Any:
        """Take from a decoded image, in its own mode, what `score` needs; must leave it unchanged.

        Called from several threads. Only what is returned is kept until the batch is complete.
        """

    @abstractmethod
    def score(self, batch: ImageBatch) -> Scores:
        """Score a batch of views."""


def create(name: str, parameters: Mapping[str, Any], *, where: object = None) -> Operator:
    """Return the operator `name` with its parameters checked; `where` is named in errors.

    Raises ConfigError for an unknown name, key or value, for a name that two distributions claim, and
    for an entry point that does not work; AssetError for a missing file.
    """
    kind = _kind(name, where)
    try:
        checked = kind.parameters_type.model_validate(dict(parameters))
    except ValidationError as error:
        place = f"{where}: operator {name}" if where else f"operator {name}"
        raise explain(error, place, kind.parameters_type) from None
    return kind(checked)


def _kind(name: str, where: object) -> type[Operator]:
    """Return the class of an operator: of this package, or of another installed distribution."""
    others = _installed().get(name, ())
    claims = [*([f"ecodatum ({OPERATORS[name]})"] if name in OPERATORS else []), *map(_claim, others)]
    if not claims:
        known = ", ".join(sorted({*OPERATORS, *_installed()}))
        raise ConfigError(f"unknown operator {name!r}", where=where, todo=f"known operators: {known}")
    if len(claims) > 1:
        raise ConfigError(
            f"several distributions have an operator {name!r}: {', '.join(claims)}",
            where=where,
            todo="uninstall all but one, or give yours another name",
        )
    return _loaded_class(others[0]) if others else _own_class(OPERATORS[name])


def _own_class(place: str) -> type[Operator]:
    module, _, attribute = place.partition(":")
    kind: type[Operator] = getattr(importlib.import_module(module), attribute)
    return kind


@cache
def _installed() -> Mapping[str, tuple[metadata.EntryPoint, ...]]:
    """Return the operators that installed distributions declare, by name; loads none of them."""
    found: dict[str, tuple[metadata.EntryPoint, ...]] = {}
    for point in metadata.entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _claim(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'an unnamed distribution'} ({point.value})"


def _loaded_class(point: metadata.EntryPoint) -> type[Operator]:
    """Return an entry point's class; raises ConfigError, naming its distribution, if it is no operator."""
    place = f"operator {point.name} of the distribution {_claim(point)}"
    try:
        kind = point.load()
    except Exception as error:  # importing another's module can fail in any way
        raise ConfigError(
            f"cannot be loaded: {type(error).__name__}: {error}",
            where=place,
            todo="mend or uninstall that distribution",
        ) from error
    derived = inspect.isclass(kind) and issubclass(
        kind, MetadataOperator | EmbeddingsOperator | ImageOperator
    )
    if not derived or inspect.isabstract(kind):
        lacks = sorted(getattr(kind, "__abstractmethods__", ()))
        raise ConfigError(
            f"its class lacks {', '.join(lacks)}" if lacks else "it is no operator",
            where=place,
            todo="derive a class from MetadataOperator, EmbeddingsOperator or ImageOperator"
            " of ecodatum.operators.operator",
        )
    if getattr(kind, "name", None) != point.name or not isinstance(getattr(kind, "version", None), int):
        raise ConfigError(
            f"the class needs name = {point.name!r} and a whole number as version: they mark its scores",
            where=place,
        )
    checked: type[Operator] = kind
    return checked


def fault_where(mask: npt.NDArray[np.bool_], reason: str) -> Fault | None:
    """Return the fault of the rows where `mask`, (n,), holds; None where it never does."""
    return Fault(np.flatnonzero(mask), reason) if mask.any() else None
