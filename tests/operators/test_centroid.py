"""The nearest centre, how far it is, and how far it lies from the others."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.centroid import Centroid, CentroidParameters


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scaled: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def operator(folder: Path, centres: npt.NDArray[np.float64], neighbours: int = 20) -> Centroid:
    np.save(folder / "centres.npy", centres.astype(np.float32))
    made = Centroid(CentroidParameters(centroids=str(folder / "centres.npy"), neighbours=neighbours))
    made.prepare("cpu")
    return made


def test_the_formulas(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    centres, vectors = unit(chance.normal(size=(30, 8))), unit(chance.normal(size=(500, 8)))
    found = operator(tmp_path, centres, neighbours=5).score({"l14_img": vectors.astype(np.float16)}).values
    similarity = vectors @ centres.T
    between = np.sort(1 - centres @ centres.T, axis=1)[:, 1:6].mean(axis=1)
    cluster = np.array(found.column("cluster"))
    assert (cluster == similarity.argmax(axis=1)).mean() > 0.99  # fp16 may tip one between two centres
    assert np.array(found.column("distance")) == pytest.approx(1 - similarity.max(axis=1), abs=2e-3)
    assert np.array(found.column("isolation")) == pytest.approx(between[cluster], abs=1e-5)


def test_lengths_do_not_matter(tmp_path: Path) -> None:
    centres = np.array([[1.0, 0], [0, 1]])
    plain = operator(tmp_path, centres).score({"l14_img": np.array([[3.0, 1], [0.1, 0.2]])}).values
    assert plain.column("cluster").to_pylist() == [0, 1]
    scaled = operator(tmp_path, centres * [[5.0], [1]]).score({"l14_img": np.array([[3.0, 1], [0.1, 0.2]])})
    assert scaled.values.equals(plain)


def test_an_embedding_without_a_direction_has_no_cluster(tmp_path: Path) -> None:
    scores = operator(tmp_path, np.eye(3)).score(
        {"l14_img": np.array([[1.0, 0, 0], [0, 0, 0], [np.nan] * 3])}
    )
    assert scores.values.column("cluster").to_pylist() == [0, None, None]
    assert [list(fault.rows) for fault in scores.faults] == [[1, 2]]


def test_a_single_centre_is_not_isolated(tmp_path: Path) -> None:
    scores = operator(tmp_path, np.eye(3)[:1]).score({"l14_img": np.eye(3)})
    assert scores.values.column("isolation").to_pylist() == [0, 0, 0]


def test_centres_of_another_width_are_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="width 3, but centres of 2"):
        operator(tmp_path, np.eye(2)).score({"l14_img": np.eye(3)})


def test_what_is_no_file_of_centres_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="ecodatum centroids"):
        Centroid(CentroidParameters(centroids=str(tmp_path / "none.npy")))
    (tmp_path / "bad.npy").write_bytes(b"not an array")
    with pytest.raises(AssetError, match="not cluster centres"):
        Centroid(CentroidParameters(centroids=str(tmp_path / "bad.npy"))).prepare("cpu")


def test_the_centres_count_for_the_fingerprint(tmp_path: Path) -> None:
    first = operator(tmp_path, np.eye(3)).fingerprint
    assert operator(tmp_path, np.eye(3)[:2]).fingerprint != first
