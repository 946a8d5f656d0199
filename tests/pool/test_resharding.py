"""Resharding copies what DataComp's resharder copies."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ecodatum.errors import PoolError
from ecodatum.pool.pool import open_pool
from ecodatum.pool.resharding import reshard
from ecodatum.pool.shards import read_shard
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import UID


def test_samples_keys_and_bytes_are_those_of_datacomps_resharder(reference: Path, tmp_path: Path) -> None:
    subset = read_subset(reference / "datacomp" / "reshard_subset.npy")
    listing = json.loads((reference / "datacomp" / "reshard_listing.json").read_text())
    expected = [(m["name"], m["size"], m["mode"], m["sha1"]) for shard in listing.values() for m in shard]
    got = []
    parts = open_pool(reference / "datacomp" / "pool").parts
    for part in sorted(parts, key=lambda part: part.shards[0].path):
        out = tmp_path / part.name
        done = reshard(part, subset, out, shard_size=100)
        meta = json.loads((out / "meta.json").read_text())
        assert meta["output_shard_count"] == done.shards == len(list(out.glob("*.tar")))
        assert meta["output_shard_format"] == "{:08d}.tar"
        for tar in sorted(out.glob("*.tar")):
            samples = list(read_shard(tar))
            stats = json.loads(tar.with_name(f"{tar.stem}_stats.json").read_text())
            assert stats == {"successes": len(samples)} and len(samples) <= 100
            got += [
                (f"{s.key}.{extension}", len(data), "0o444", hashlib.sha1(data).hexdigest()[:12])
                for s in samples
                for extension, data in s.members.items()
            ]
    assert got == expected
    counts = json.loads((reference / "datacomp" / "reshard_meta.json").read_text())
    assert len(got) == 3 * counts["output_count"]


def test_samples_are_spread_evenly_over_the_shards(reference: Path, tmp_path: Path) -> None:
    part = open_pool(reference / "datacomp" / "pool").parts[0]
    subset = read_subset(reference / "datacomp" / "subsets" / "no_filter.npy")
    reshard(part, subset, tmp_path / "out", shard_size=300)
    sizes = [len(list(read_shard(tar))) for tar in sorted((tmp_path / "out").glob("*.tar"))]
    assert len(sizes) == 2 and sizes[0] - sizes[1] < 20  # 400 rows, of which 9 have no image


def test_an_empty_subset_writes_no_shard(reference: Path, tmp_path: Path) -> None:
    part = open_pool(reference / "datacomp" / "pool").parts[0]
    done = reshard(part, np.empty(0, UID), tmp_path / "out")
    assert (done.written, done.shards, list((tmp_path / "out").glob("*.tar"))) == (0, 0, [])


def test_the_same_input_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    subset = read_subset(reference / "datacomp" / "reshard_subset.npy")
    part = open_pool(reference / "datacomp" / "pool").parts[0]
    for name in ("a", "b"):
        reshard(part, subset, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files and all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files
    )


def test_a_truncated_shard_fails_with_its_name(reference: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(reference / "datacomp" / "pool", pool, copy_function=shutil.copyfile)
    tar = pool / "shards" / "00000001.tar"
    tar.write_bytes(tar.read_bytes()[:200_000])
    subset = read_subset(reference / "datacomp" / "reshard_subset.npy")
    with pytest.raises(PoolError, match=r"00000001.tar: truncated"):
        reshard(open_pool(pool).parts[1], subset, tmp_path / "out")
