import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.features import read_centroids, read_features
from ecodatum.operators.operator import create
from ecodatum.operators.score import score
from tests.operators.tiny_samples import Row, make_part

CENTRES = np.eye(4, dtype=np.float32)[:3]


class Malicious:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("never"),)


def scored(folder: Path, embeddings: Any, *, kind: str = "pt") -> list[dict[str, Any]]:
    """Score rows whose embeddings are given against three centres, of which the second is a target's."""
    part = make_part(folder, [Row(n, "a") for n in range(5)])
    np.savez(part.embeddings, l14_img=np.asarray(embeddings, np.float16))
    centres, targets = folder / f"centres.{kind}", folder / f"targets.{kind}"
    if kind == "npy":
        np.save(centres, CENTRES)
        np.save(targets, np.eye(4, dtype=np.float16)[1:2])
    else:
        torch.save(CENTRES, centres, pickle_protocol=4)
        torch.save({"image_features": torch.tensor([[0.0, 1, 0, 0]])}, targets)
    operator = create("cluster", {"centroids": str(centres), "targets": [str(targets)]})
    output = folder / "scores.parquet"
    score(part, {"cluster": operator}, {"cluster": output}, device="cpu")
    return list(pq.read_table(output).select(["cluster", "target"]).to_pylist())


def test_each_image_gets_its_nearest_centre_and_the_first_of_equals(tmp_path: Path) -> None:
    rows = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0.5, 0.4, 9], [0, 1, 1, 0], [np.nan, 0, 1, 0]]
    found = scored(tmp_path, rows)
    assert [row["cluster"] for row in found] == [0, 2, 1, 1, 0]
    assert [row["target"] for row in found] == [False, False, True, True, False]


def test_an_npz_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"part\.npz: l14_img has 4 rows, the metadata 5"):
        scored(tmp_path, np.zeros((4, 4)))


def test_embeddings_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"part\.npz: embeddings of width 7, but centres of 4"):
        scored(tmp_path, np.zeros((5, 7)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "centres.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("centres/data.pkl", pickle.dumps(Malicious()))
    with pytest.raises(AssetError, match="not cluster centres: it names"):
        read_centroids(path)


def test_missing_centres_are_named() -> None:
    with pytest.raises(AssetError, match=r"nosuch\.pt: cluster centres not found"):
        create("cluster", {"centroids": "nosuch.pt"})


def test_centres_and_targets_may_be_npy(tmp_path: Path) -> None:
    pt, npy = (scored(tmp_path / kind, np.eye(5, 4), kind=kind) for kind in ("pt", "npy"))
    assert [row["cluster"] for row in pt] == [0, 1, 2, 0, 0]
    assert pt == npy


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros((0, 4)), np.full((2, 4), np.nan), np.zeros(4)])
def test_an_npy_that_holds_no_centres_is_refused(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "centres.npy", array)
    with pytest.raises(AssetError, match="not cluster centres: it holds"):
        read_centroids(tmp_path / "centres.npy")


def test_a_truncated_npy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "centres.npy"
    np.save(path, CENTRES)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(AssetError, match="not cluster centres"):
        read_centroids(path)
    with pytest.raises(AssetError, match="not image features"):
        read_features(path)
