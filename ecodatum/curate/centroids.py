"""Centroids: k-means over a pool's image embeddings, as DataComp made those of its image-based filter."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecodatum.curate.recipe import Condition
from ecodatum.curate.voting import passes
from ecodatum.errors import ConfigError, PoolError
from ecodatum.files import replacing, write_json
from ecodatum.operators.operator import MetadataOperator, create
from ecodatum.pool.embeddings import open_embeddings
from ecodatum.pool.pool import Part, Pool, read_columns

_ROWS = 8192

Progress = Callable[[int], None]

_CAPTION_OPERATORS = ("language", "tokens", "caption")

#: The captions whose images DataComp clusters (baselines/apply_filter.py, caption_filter).
_CAPTION_RULES = tuple(
    Condition.model_validate(rule)
    for rule in (
        {"score": "language.lang", "is": "en"},
        {"score": "tokens.tokens", "above": 1},
        {"score": "caption.characters", "above": 5},
    )
)


@dataclass(frozen=True)
class Settings:
    """What makes centres; the defaults are DataComp's (baselines/image_based_clustering.py).

    embeddings: the array of the npz. captions: take only samples whose caption is English, with more
    than one token and five characters. share: of each part's samples. spherical: centres of length 1, as
    SemDeDup has them (arXiv 2303.09540).
    """

    clusters: int
    embeddings: str = "l14_img"
    captions: bool = True
    share: float = 1.0
    spherical: bool = False
    iterations: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """The embeddings to cluster, (n, width) fp32, and how they were come by.

    rows: of the pool. passing: those whose caption passes, or all. not_finite: left out for NaN or inf.
    """

    vectors: npt.NDArray[np.float32]
    rows: int
    passing: int
    not_finite: int


def sample_embeddings(pool: Pool, settings: Settings, progress: Progress) -> Sample:
    """Read a seeded sample of a pool's embeddings, part by part, with the sample alone in memory.

    It is drawn without replacement; DataComp draws with it, and unseeded. progress: is told of every few
    rows read.

    Raises PoolError for a part without embeddings, a missing array or a damaged file.
    """
    operators = {name: _operator(name) for name in _CAPTION_OPERATORS} if settings.captions else {}
    blocks: list[npt.NDArray[Any]] = []
    passing = not_finite = 0
    for number, part in enumerate(pool.parts):
        rows = _passing_rows(part, operators)
        passing += len(rows)
        if settings.share < 1:
            draw = np.random.default_rng([settings.seed, number])
            size = int(len(rows) * settings.share)
            rows = np.sort(draw.choice(rows, size, replace=False, shuffle=False))
        for block in _read_rows(part, settings.embeddings, rows, progress):
            finite = np.isfinite(block).all(axis=1)
            not_finite += int((~finite).sum())
            blocks.append(block[finite])
    return Sample(_stacked(blocks), pool.rows, passing, not_finite)


def _operator(name: str) -> MetadataOperator:
    operator = create(name, {})
    assert isinstance(operator, MetadataOperator)
    operator.prepare("cpu")
    return operator


def _passing_rows(part: Part, operators: dict[str, MetadataOperator]) -> npt.NDArray[np.int64]:
    """Return the row numbers of a part whose captions pass; of all rows without operators."""
    if not operators:
        return np.arange(part.rows)
    masks = []
    for batch in read_columns(part, ["text"]):
        columns = {
            f"{name}.{column}": pa.chunked_array([values.column(column)])
            for name, operator in operators.items()
            for values in [operator.score(batch).values]
            for column in values.schema.names
        }
        masks.append(passes(_CAPTION_RULES, columns, batch.num_rows))
    return np.flatnonzero(np.concatenate([np.empty(0, bool), *masks]))


def _read_rows(
    part: Part, name: str, rows: npt.NDArray[np.int64], progress: Progress
) -> Iterator[npt.NDArray[Any]]:
    """Yield the embeddings of the given rows, ascending, in blocks."""
    with open_embeddings(part, [name]) as arrays:
        for start in range(0, part.rows, _ROWS):
            count = min(_ROWS, part.rows - start)
            first, last = np.searchsorted(rows, [start, start + count])
            block = arrays.read(count)[name]
            yield block[rows[first:last] - start]
            progress(count)


def _stacked(blocks: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Join the blocks in fp32, giving each one's memory back when it is copied."""
    widths = {block.shape[1] for block in blocks}
    if len(widths) != 1:
        raise PoolError(f"the parts' embeddings differ in width: {sorted(widths)}")
    vectors = np.empty((sum(len(block) for block in blocks), widths.pop()), np.float32)
    blocks.reverse()
    start = 0
    while blocks:
        block = blocks.pop()
        vectors[start : start + len(block)] = block
        start += len(block)
    return vectors


def kmeans(
    vectors: npt.NDArray[np.float32],
    settings: Settings,
    *,
    device: str = "cpu",
    progress: Callable[[float], None] = lambda objective: None,
) -> npt.NDArray[np.float32]:
    """Cluster (n, width) fp32 vectors by faiss; return the centres, (clusters, width) fp32.

    Euclidean and without subsampling, as in DataComp's train_kmeans. device: `cpu`, or `cuda` for all
    GPUs. progress: is told the sum of squared distances after each iteration.

    Raises ConfigError for fewer vectors than clusters.
    """
    import faiss

    clusters = settings.clusters
    if len(vectors) < clusters:
        raise ConfigError(
            f"{clusters:,} clusters of {len(vectors):,} samples",
            where="k-means",
            todo="ask for fewer clusters, or a larger share of the pool",
        )
    index: Any = faiss.IndexFlatL2(vectors.shape[1])
    if device == "cuda":
        index = faiss.index_cpu_to_all_gpus(index)
    clustering: Any = faiss.Clustering(vectors.shape[1], clusters)
    clustering.seed, clustering.spherical = settings.seed, settings.spherical
    clustering.max_points_per_centroid = max(len(vectors), 1)  # else faiss would draw a sample
    clustering.min_points_per_centroid = 1  # else it warns
    clustering.niter = 1  # one at a time, from the centres of the last, so that progress can be told
    for _ in range(settings.iterations):
        clustering.train(vectors, index)
        progress(float(clustering.iteration_stats.at(clustering.iteration_stats.size() - 1).obj))
    centres: npt.NDArray[np.float32] = faiss.vector_to_array(clustering.centroids)
    return centres.reshape(clusters, vectors.shape[1])


def write_centroids(
    path: Path,
    centres: npt.NDArray[np.float32],
    settings: Settings,
    *,
    pool: Pool,
    sample: Sample,
    **made: Any,
) -> None:
    """Write the centres as npy, and beside them as JSON what made them.

    made: what else the JSON should tell. Raises RunError where it cannot be written.
    """
    import faiss

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, centres)
    record = {
        "pool": str(pool.path),
        "pool_fingerprint": pool.fingerprint,
        **asdict(settings),
        "rows": sample.rows,
        "rows_passing": sample.passing,
        "rows_not_finite": sample.not_finite,
        "sample": len(sample.vectors),
        "faiss": faiss.__version__,
        **made,
    }
    write_json(path.with_suffix(".json"), record)


def choose_device(device: str) -> str:
    """Return `device`, or for `auto` `cuda` where faiss has a GPU, else `cpu`.

    Raises ConfigError for another device, and for `cuda` where faiss has no GPU.
    """
    import faiss

    if device not in {"cpu", "cuda", "auto"}:
        raise ConfigError("no such device", where=f"device {device!r}", todo="use cpu, cuda or auto")
    gpus = getattr(faiss, "get_num_gpus", int)()
    if device == "cuda" and not gpus:
        raise ConfigError(
            "faiss has no GPU here",
            where="device 'cuda'",
            todo="its default build has no GPU support: pip uninstall faiss-cpu, and install the extra"
            " faiss-gpu or conda-forge's faiss-gpu; or use cpu",
        )
    return ("cuda" if gpus else "cpu") if device == "auto" else device
