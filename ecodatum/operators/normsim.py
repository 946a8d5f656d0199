"""NormSim: how near an image is to a target data set's images."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.assets import find_assets
from ecodatum.operators.features import IMAGENET_1K, read_features
from ecodatum.operators.operator import Column, EmbeddingsOperator, Parameters, Scores, fault_where

if TYPE_CHECKING:
    import torch

#: Target images that are multiplied with at once: 8192 rows of a pool and they make 256 MiB in fp32.
_TARGETS: Final = 8192


class NormSimParameters(Parameters):
    """targets: files of the target images' embeddings, (n, width): `.npy`, or as DataComp gives them.

    norm: p, 2 or inf. embeddings: the array of the pool's embeddings, of the same model as the targets'.
    """

    targets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = IMAGENET_1K
    norm: Literal[2, "inf"] = "inf"
    embeddings: str = "l14_img"


class NormSim(EmbeddingsOperator):
    """NormSim_p of Wang et al. 2024 (arXiv 2405.19547): the p-norm of an image's similarities to all targets.

    With p = 2 it is the square root of f·(ΣGᵀG)·f, whose cost does not depend on the number of targets
    (the same order as the variance alignment score of arXiv 2402.02055); with p = inf the largest
    similarity, negative ones by their size.
    """

    name = "normsim"
    version = 1
    runs_on = "gpu"
    parameters_type = NormSimParameters

    def __init__(self, parameters: NormSimParameters) -> None:
        super().__init__(parameters)
        self._settings = parameters
        self._paths = find_assets(parameters.targets, what="target features")
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """One score; higher is nearer."""
        meaning = f"{self._settings.norm}-norm of the inner products with all targets"
        return (Column("normsim", pa.float32(), meaning, 0),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pool's image embeddings."""
        return (self._settings.embeddings,)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The target features."""
        return {"targets": self._paths}

    def prepare(self, device: str) -> None:
        """Open the targets; on a GPU they are all moved there, in the files' own precision."""
        self._device = device
        _ = self._gram if self._settings.norm == 2 else self._blocks

    @cached_property
    def _features(self) -> list[npt.NDArray[np.floating]]:
        features = [read_features(path) for path in self._paths]
        for path, array in zip(self._paths, features, strict=True):
            if not len(array) or array.shape[1] != features[0].shape[1]:
                raise AssetError(
                    f"{len(array)} features of width {array.shape[1]}, where the first file's are"
                    f" {features[0].shape[1]} wide",
                    where=path,
                )
        return features

    @cached_property
    def _gram(self) -> "torch.Tensor":
        """The sum of the targets' outer products, (width, width), in double precision."""
        import torch

        width = self._features[0].shape[1]
        gram = torch.zeros((width, width), dtype=torch.float64, device=self._device)
        for block in self._targets():
            targets = block.to(self._device).double()
            gram += targets.T @ targets
        return gram

    @cached_property
    def _blocks(self) -> "list[torch.Tensor]":
        return [block.to(self._device) for block in self._targets()]

    def _targets(self) -> "Iterator[torch.Tensor]":
        """Yield all targets, a block at a time; on the CPU they stay in their files."""
        import torch

        for array in self._features:
            for start in range(0, len(array), _TARGETS):
                yield torch.from_numpy(array[start : start + _TARGETS])

    def score(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Scores:
        """Score each image; one whose embedding is not finite has no score."""
        import torch

        features, width = arrays[self._settings.embeddings], self._features[0].shape[1]
        if features.shape[1] != width:
            raise PoolError(
                f"embeddings of width {features.shape[1]}, but targets of {width}",
                todo=f"are {self._paths[0]} made by the model of this pool's {self._settings.embeddings}?",
            )
        finite = np.isfinite(features).all(axis=1)
        with torch.inference_mode():
            block = torch.from_numpy(np.where(finite[:, None], features, 0)).to(self._device)
            norm = self._two_norm(block) if self._settings.norm == 2 else self._largest(block)
        return self.scores(
            {"normsim": pa.array(norm.float().cpu().numpy(), mask=~finite)},
            fault_where(~finite, "an embedding is not finite"),
        )

    def _two_norm(self, features: "torch.Tensor") -> "torch.Tensor":
        exact = features.double()
        return ((exact @ self._gram) * exact).sum(1).clamp(min=0).sqrt()

    def _largest(self, features: "torch.Tensor") -> "torch.Tensor":
        import torch

        single = features.float()
        largest = torch.full((len(single),), -math.inf, device=single.device)
        for targets in self._blocks:
            largest = torch.maximum(largest, (single @ targets.float().T).abs().amax(1))
        return largest
