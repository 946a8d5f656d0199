"""Resharding against DataComp's own resharder.py, run here: the same samples, bytes and counts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecodatum.cli.app import app
from ecodatum.datacomp.checkout import Checkout, find_checkout
from ecodatum.datacomp.scripts import run
from ecodatum.errors import AssetError
from ecodatum.pool.pool import open_pool
from ecodatum.pool.shards import read_shard
from ecodatum.pool.subsets import read_subset, write_subset


@pytest.fixture(scope="module")
def checkout() -> Checkout:
    for module in ("cloudpathlib", "simdjson", "cv2", "img2dataset"):
        pytest.importorskip(module)
    try:
        return find_checkout()
    except AssetError:
        pytest.skip("DataComp's checkout is absent (set DATACOMP_HOME)")


def _listing(folder: Path) -> list[tuple[str, str]]:
    """List the members in the samples' own order; the peer walks shards, and this parts, by their names."""
    samples = [sample for tar in sorted(folder.glob("*.tar")) for sample in read_shard(tar)]
    return sorted((s.key, " ".join(f"{e}={_digest(data)}" for e, data in s.members.items())) for s in samples)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ([], []),
        (["--apply-blur"], ["--blur-faces"]),
        (["--inject-blur-metadata"], ["--inject-face-boxes"]),
        (["--apply-blur", "--inject-blur-metadata"], ["--blur-faces", "--inject-face-boxes"]),
    ],
)
def test_samples_bytes_and_counts_are_datacomps(
    checkout: Checkout, reference: Path, tmp_path: Path, theirs: list[str], ours: list[str]
) -> None:
    pool, subset = reference / "datacomp" / "pool", tmp_path / "subset.npy"
    every = np.unique(read_subset(reference / "datacomp" / "subsets" / "no_filter.npy"))
    write_subset(subset, np.concatenate([every, every[:50], every[:9]]))
    (tmp_path / "theirs").mkdir()
    arguments = ["-i", str(pool / "shards"), "-o", str(tmp_path / "theirs"), "-s", str(subset), "-j", "1"]
    if theirs:
        arguments += ["--blur-metadata-map", str(_map(pool, tmp_path / "map.json")), *theirs]
    run(checkout, "resharder.py", arguments, own_scale=None, on_cpu=True, watch=lambda: None)
    command = ["reshard", "--pool", str(pool), "--subset", str(subset), "--out", str(tmp_path / "ours")]
    app([*command, "--work", str(tmp_path / "work"), "--jobs", "0", *ours], standalone_mode=False)
    assert _listing(tmp_path / "ours") == _listing(tmp_path / "theirs")
    metas: list[dict[str, Any]] = [
        json.loads((tmp_path / side / "meta.json").read_text()) for side in ("ours", "theirs")
    ]
    for field in ("processed_count", "output_count", "blur_count", "apply_blur", "inject_blur_metadata"):
        assert metas[0][field] == metas[1][field], field
    assert (tmp_path / "ours" / "sample_ids.npy").read_bytes() == subset.read_bytes()


def _map(pool: Path, path: Path) -> Path:
    """Write the map from metadata files to shards that the peer wants for its blur."""
    parts = open_pool(pool).parts
    entries = {
        p.name: {"parquet": str(p.metadata), "shards": [str(shard.path) for shard in p.shards]} for p in parts
    }
    path.write_text(json.dumps(entries))
    return path
