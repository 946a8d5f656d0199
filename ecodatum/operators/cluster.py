"""Clusters of the pool's images, and which of them lie near a target data set's."""

import codecs
import pickle
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.assets import find_asset
from ecodatum.operators.operator import Column, EmbeddingsOperator, Parameters, Scores

if TYPE_CHECKING:
    import torch

#: Similarities that are held at once: 256 MiB in fp32.
_HELD = 1 << 26


class ClusterParameters(Parameters):
    """centroids: the pool's cluster centres, as DataComp's clustering saves them.

    targets: features of the target images, as DataComp gives them for ImageNet-1k. embeddings: the
    array of the pool's embeddings that both belong to.
    """

    centroids: str = "small_centroids_l14.pt"
    targets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = tuple(
        f"in1k_clip_vit_l14_{i}.pt" for i in range(5)
    )
    embeddings: str = "l14_img"


class Cluster(EmbeddingsOperator):
    """The cluster whose centre is nearest to an image, and whether it is a target image's nearest too."""

    name = "cluster"
    version = 1
    runs_on = "gpu"
    parameters_type = ClusterParameters

    def __init__(self, parameters: ClusterParameters) -> None:
        super().__init__(parameters)
        self._embeddings = parameters.embeddings
        todo = (
            "it is an asset of DataComp's baselines: release v0.1.0-alpha of sagadre/datacomp_baseline_assets"
        )
        self._centroids_path = find_asset(parameters.centroids, what="cluster centres", todo=todo)
        self._target_paths = tuple(
            find_asset(name, what="target features", todo=todo) for name in parameters.targets
        )
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
    def _centroids(self) -> "torch.Tensor":
        import torch

        return torch.from_numpy(read_centroids(self._centroids_path)).to(self._device)

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
        import torch

        found = np.zeros(len(features), np.int64)
        rows = max(1, _HELD // len(self._centroids))
        for start in range(0, len(features), rows):
            block = torch.from_numpy(features[start : start + rows].astype(np.float32)).to(self._device)
            similarity = block @ self._centroids.T
            found[start : start + rows] = torch.argmax(similarity, dim=1).cpu().numpy()
        return found


_RECONSTRUCT: Final = np.empty(0).__reduce__()[0]

#: All that an array's pickle names; NumPy 1 and 2 call the first one differently.
_GLOBALS: Final[Mapping[tuple[str, str], Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and nothing else, so that no file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array does") from None


def read_centroids(path: Path) -> npt.NDArray[np.float32]:
    """Return cluster centres, (k, width) fp32, that `torch.save` has written as a NumPy array.

    DataComp saves them with pickle protocol 4, which torch's own safe loading does not read.
    Raises AssetError for a file that holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
            with archive.open(name) as file:
                array = _ArrayUnpickler(file).load()
        if not isinstance(array, np.ndarray) or array.ndim != 2 or not len(array):
            raise ValueError("it holds no array of rows")
        return np.ascontiguousarray(array, np.float32)
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError, OSError) as error:
        raise AssetError(f"not cluster centres: {error}", where=path) from error


def read_features(path: Path) -> npt.NDArray[np.float32]:
    """Return the tensor `image_features`, (n, width), of a file by `torch.save`, as fp32.

    Raises AssetError for a file that holds anything else.
    """
    import torch

    try:
        features = torch.load(path, map_location="cpu", weights_only=True)["image_features"]
        if features.ndim != 2:
            raise ValueError(f"image_features has the shape {tuple(features.shape)}")
        array: npt.NDArray[np.float32] = features.float().numpy()
        return array
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, OSError) as error:
        raise AssetError(f"not image features: {error}", where=path) from error
