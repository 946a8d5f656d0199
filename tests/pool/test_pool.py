import json
import shutil
from pathlib import Path

import pytest

from ecodatum.errors import PoolError
from ecodatum.pool.pool import open_pool, read_columns
from ecodatum.pool.shards import read_shard


@pytest.fixture
def pool(reference: Path, tmp_path: Path) -> Path:
    shutil.copytree(reference / "datacomp" / "pool", tmp_path / "pool", copy_function=shutil.copyfile)
    return tmp_path / "pool"


def test_parts_get_the_shards_of_their_rows_in_whatever_order_they_were_fetched(pool: Path) -> None:
    parts = open_pool(pool).parts
    assert [part.rows for part in parts] == [400, 400]
    assert [[shard.path.stem for shard in part.shards] for part in parts] == [
        ["00000002", "00000003"],
        ["00000000", "00000001"],
    ]
    assert sum(shard.samples for part in parts for shard in part.shards) == 784


def test_the_fingerprint_follows_the_content_alone(pool: Path, tmp_path: Path) -> None:
    before = open_pool(pool).fingerprint
    moved = pool.rename(tmp_path / "moved")
    assert open_pool(moved).fingerprint == before
    part = open_pool(moved).parts[0].metadata
    data = bytearray(part.read_bytes())
    data[5000] ^= 1
    part.write_bytes(data)
    assert open_pool(moved).fingerprint != before


def test_a_folder_that_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no pool here"):
        open_pool(tmp_path / "nowhere")


def test_a_truncated_parquet_is_named(pool: Path) -> None:
    damaged = next((pool / "metadata").glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(PoolError, match=rf"{damaged.name}.*cannot be read as parquet"):
        open_pool(pool)


def test_a_missing_column_is_named_with_what_is_there(pool: Path) -> None:
    with pytest.raises(PoolError, match=r"no column nosuch\n.*it has: uid, url"):
        list(read_columns(open_pool(pool).parts[0], ["uid", "nosuch"]))


def test_a_missing_shard_is_noticed(pool: Path) -> None:
    (pool / "shards" / "00000002.tar").unlink()
    with pytest.raises(PoolError, match=r"400 rows, but its shards .* make 200"):
        open_pool(pool)


def test_without_lists_of_rows_the_order_of_names_counts(pool: Path) -> None:
    for rows in (pool / "shards").glob("*.parquet"):
        rows.unlink()
    parts = open_pool(pool).parts
    assert [part.shards[0].path.stem for part in parts] == ["00000000", "00000002"]


def test_a_shard_too_many_is_noticed(pool: Path) -> None:
    for suffix in (".tar", "_stats.json"):
        shutil.copy(pool / "shards" / f"00000003{suffix}", pool / "shards" / f"00000004{suffix}")
    with pytest.raises(PoolError, match="a shard too many"):
        open_pool(pool)


def test_a_shard_without_counts_is_named(pool: Path) -> None:
    (pool / "shards" / "00000001_stats.json").write_text(json.dumps({"successes": 3}))
    with pytest.raises(PoolError, match=r"00000001_stats.json: unusable"):
        open_pool(pool)


@pytest.mark.parametrize("size", [100_000, 512 * 700, 512 * 3, 100])
def test_a_truncated_tar_is_never_taken_for_whole(pool: Path, size: int) -> None:
    tar = pool / "shards" / "00000000.tar"
    tar.write_bytes(tar.read_bytes()[:size])
    with pytest.raises(PoolError, match=r"00000000.tar: (truncated|damaged) shard"):
        list(read_shard(tar))


def test_a_tar_cut_between_two_samples_is_noticed(pool: Path) -> None:
    tar = pool / "shards" / "00000000.tar"
    whole = tar.read_bytes()
    ends = [whole.find(b"00000000001.jpg"), whole.find(b"00000000002.jpg")]
    for end in ends:
        tar.write_bytes(whole[:end])
        with pytest.raises(PoolError, match="no end-of-archive mark"):
            list(read_shard(tar))
