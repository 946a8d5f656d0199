"""The cluster of an embedding, how far it lies from the centre, and how far that lies from the others.

Sources: SemDeDup (Abbas et al. 2023, arXiv 2303.09540) and density-based pruning (Abbas et al. 2024,
arXiv 2401.04578), which rank and prune by these.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.errors import PoolError
from ecodatum.operators.assets import find_asset
from ecodatum.operators.features import read_centroids
from ecodatum.operators.operator import Column, EmbeddingsOperator, Parameters, Scores, fault_where

if TYPE_CHECKING:
    import torch

#: Similarities that are held at once: 256 MiB in fp32.
_HELD = 1 << 26


class CentroidParameters(Parameters):
    """centroids: cluster centres, (k, width), as `ecodatum centroids` writes them.

    embeddings: the array of the pool's embeddings that they were made from. neighbours: how many of the
    nearest centres tell a cluster's isolation.
    """

    centroids: str = "centroids.npy"
    embeddings: str = "l14_img"
    neighbours: Annotated[int, Field(ge=1)] = 20


class Centroid(EmbeddingsOperator):
    """The nearest centre by cosine; an embedding that is not a number or zero has none."""

    name = "centroid"
    version = 1
    runs_on = "gpu"
    parameters_type = CentroidParameters

    def __init__(self, parameters: CentroidParameters) -> None:
        super().__init__(parameters)
        self._embeddings, self._neighbours = parameters.embeddings, parameters.neighbours
        self._path = find_asset(
            parameters.centroids, what="cluster centres, as `ecodatum centroids` makes them,"
        )
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Distances are cosine distances, 1 - cos."""
        return (
            Column("cluster", pa.int32(), "index of the nearest centre", 0),
            Column("distance", pa.float32(), "distance to that centre", 0, 2),
            Column("isolation", pa.float32(), "mean distance of that centre to the nearest others", 0, 2),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The embeddings."""
        return (self._embeddings,)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The centres."""
        return {"centroids": (self._path,)}

    def prepare(self, device: str) -> None:
        """Load the centres onto the device, and measure how far they lie apart."""
        self._device = device
        _ = self._isolation

    @cached_property
    def _centres(self) -> "torch.Tensor":
        import torch

        return torch.from_numpy(_unit(read_centroids(self._path))).to(self._device)

    @cached_property
    def _isolation(self) -> npt.NDArray[np.float32]:
        """Return each centre's mean distance to its nearest others, (k,); 0 where there is no other."""
        import torch

        count = len(self._centres)
        if count == 1:
            return np.zeros(1, np.float32)
        found = []
        step = max(1, _HELD // count)
        for start in range(0, count, step):
            similarity = self._centres[start : start + step] @ self._centres.T
            itself = torch.arange(start, start + len(similarity), device=similarity.device)
            similarity[torch.arange(len(similarity)), itself] = -torch.inf
            nearest = similarity.topk(min(self._neighbours, count - 1), dim=1).values
            found.append((1 - nearest).mean(dim=1).cpu().numpy())
        isolation: npt.NDArray[np.float32] = np.clip(np.concatenate(found), 0, 2)
        return isolation

    def score(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Scores:
        """Assign each embedding to the centre with the highest cosine, in fp32."""
        features = _unit(arrays[self._embeddings].astype(np.float32))
        if features.shape[1] != self._centres.shape[1]:
            raise PoolError(
                f"embeddings of width {features.shape[1]}, but centres of {self._centres.shape[1]}",
                todo=f"is {self._path} made from this pool's {self._embeddings}?",
            )
        clusters, similarity = self._nearest(features)
        undefined = ~np.isfinite(similarity)
        values = {
            "cluster": clusters.astype(np.int32),
            "distance": np.clip(1 - similarity, 0, 2),
            "isolation": self._isolation[clusters],
        }
        return self.scores(
            {name: pa.array(column, mask=undefined) for name, column in values.items()},
            fault_where(undefined, "the embedding has no direction"),
        )

    def _nearest(
        self, features: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the index of the nearest centre and the cosine with it, each (n,)."""
        import torch

        found = [torch.empty(0)], [torch.empty(0, dtype=torch.int64)]
        step = max(1, _HELD // len(self._centres))
        for start in range(0, len(features), step):
            block = torch.from_numpy(features[start : start + step]).to(self._device)
            best = (block @ self._centres.T).max(dim=1)
            found[0].append(best.values.cpu())
            found[1].append(best.indices.cpu())
        return torch.cat(found[1]).numpy(), torch.cat(found[0]).numpy()


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale vectors, (n, width), to length 1; one without a direction becomes NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
