"""Clusters of the pool's images, and which of them lie near a target data set's."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.assets import find_asset, find_assets
from ecodatum.operators.features import IMAGENET_1K, read_centroids, read_features
from ecodatum.operators.operator import Column, EmbeddingsOperator, Parameters, Scores

if TYPE_CHECKING:
    import torch

_ROWS = 8192

#: Similarities that are held at once on a GPU: 256 MiB in fp32.
_HELD = 1 << 26


class ClusterParameters(Parameters):
    """centroids: the pool's cluster centres, by `ecodatum centroids` or as DataComp's clustering saves them.

    targets: features of the target images, as DataComp gives them for ImageNet-1k, or `.npy` files.
    embeddings: the array of the pool's embeddings that both belong to.
    """

    centroids: str = "small_centroids_l14.pt"
    targets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = IMAGENET_1K
    embeddings: str = "l14_img"


class Cluster(EmbeddingsOperator):
    """The cluster whose centre is nearest to an image, and whether it is a target image's nearest too."""

    name = "cluster"
    version = 2
    runs_on = "gpu"
    parameters_type = ClusterParameters

    def __init__(self, parameters: ClusterParameters) -> None:
        super().__init__(parameters)
        self._embeddings = parameters.embeddings
        self._centroids_path = find_asset(parameters.centroids, what="cluster centres")
        self._target_paths = find_assets(parameters.targets, what="target features")
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """DataComp's image-based filter (baselines/apply_filter.py, image_filter_helper)."""
        return (
            Column("cluster", pa.int32(), "index of the centre with the largest inner product", 0),
            Column("target", pa.bool_(), "some target image has the same nearest centre"),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pool's image embeddings."""
        return (self._embeddings,)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """Centres and target features."""
        return {"centroids": (self._centroids_path,), "targets": self._target_paths}

    def prepare(self, device: str) -> None:
        """Load the centres onto the device, and find the target images' clusters."""
        self._device = device
        _ = self._is_target

    @cached_property
    def _centroids(self) -> npt.NDArray[np.float32]:
        return read_centroids(self._centroids_path)

    @cached_property
    def _is_target(self) -> npt.NDArray[np.bool_]:
        is_target = np.zeros(len(self._centroids), bool)
        for path in self._target_paths:
            features = read_features(path)
            if features.shape[1] != self._centroids.shape[1]:
                raise AssetError(
                    f"features of width {features.shape[1]}, but centres of {self._centroids.shape[1]}",
                    where=path,
                )
            is_target[self._nearest(features)] = True
        return is_target

    def score(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Scores:
        """Assign each image; in an embedding with NaN all centres tie, and the first wins, as there."""
        features = arrays[self._embeddings]
        if features.shape[1] != self._centroids.shape[1]:
            raise PoolError(
                f"embeddings of width {features.shape[1]}, but centres of {self._centroids.shape[1]}",
                todo=f"is {self._centroids_path} made from this pool's {self._embeddings}?",
            )
        clusters = self._nearest(features)
        return self.scores({"cluster": clusters, "target": self._is_target[clusters]})

    def _nearest(self, features: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the index of the centre nearest to each of (n, width) features, in fp32; (n,)."""
        find = self._nearest_on_cpu if self._device == "cpu" else self._nearest_on_gpu
        blocks = (features[start : start + _ROWS] for start in range(0, len(features), _ROWS))
        found = [find(np.ascontiguousarray(block, np.float32)) for block in blocks]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _nearest_on_cpu(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        import faiss  # takes three quarters of the time that torch's product and maximum take

        nearest: npt.NDArray[np.int64] = faiss.knn(block, self._centroids, 1, faiss.METRIC_INNER_PRODUCT)[1]
        return np.maximum(nearest[:, 0], 0)  # -1 where all are NaN

    def _nearest_on_gpu(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        import torch

        centroids, rows = self._centroids_on_gpu, max(1, _HELD // len(self._centroids))
        features = torch.from_numpy(block).to(self._device)
        nearest = [torch.argmax(some @ centroids.T, dim=1) for some in torch.split(features, rows)]
        found: npt.NDArray[np.int64] = torch.cat(nearest).cpu().numpy()
        return found

    @cached_property
    def _centroids_on_gpu(self) -> "torch.Tensor":
        import torch

        return torch.from_numpy(self._centroids).to(self._device)
