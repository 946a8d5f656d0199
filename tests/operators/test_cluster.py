import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ecodatum.errors import AssetError, PoolError
from ecodatum.operators.cluster import read_centroids
from ecodatum.operators.operator import create
from ecodatum.operators.score import score
from tests.operators.tiny_samples import Row, make_part

CENTRES = np.eye(4, dtype=np.float32)[:3]


class Malicious:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("never"),)


def scored(folder: Path, embeddings: Any) -> list[dict[str, Any]]:
    """Score rows whose embeddings are given against three centres, of which the second is a target's."""
    part = make_part(folder, [Row(n, "a") for n in range(5)])
    np.savez(part.embeddings, l14_img=np.asarray(embeddings, np.float16))
    centres, targets = folder / "centres.pt", folder / "targets.pt"
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


def test_missing_centres_say_where_to_get_them() -> None:
    with pytest.raises(
        AssetError, match=r"nosuch\.pt: cluster centres not found\n.*datacomp_baseline_assets"
    ):
        create("cluster", {"centroids": "nosuch.pt"})
