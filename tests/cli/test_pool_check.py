"""`ecodatum pool check` finds what is wrong with a pool, names the file, and ends with status 1."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.cli.app import app
from ecodatum.errors import PoolError
from tests.conftest import MakePool


def check(pool: Path, *more: str) -> None:
    app(["pool", "check", str(pool), "--jobs", "0", *more], standalone_mode=False)


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    folder = make_pool(rows=10, parts=2, changes={3: {"image": None}, 4: {"face_bboxes": [[0.1] * 4]}})
    for file in (folder / "metadata").glob("*.parquet"):
        _embeddings(file.with_suffix(".npz"), 8, 8, 8, 8)
    return folder


def _embeddings(path: Path, *widths: int) -> None:
    arrays = [np.zeros((10, width), np.float16) for width in widths]
    np.savez(path, b32_img=arrays[0], b32_txt=arrays[1], l14_img=arrays[2], l14_txt=arrays[3])


def test_a_sound_pool_has_no_faults(pool: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(pool)
    text = capfd.readouterr().out
    assert "no faults" in text and "1 (10.0%)" in text and "0 (0.0%)" in text


def test_metadata_alone_are_checked_without_reading_a_shard(
    pool: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pool / "shards" / "00000001.tar").write_bytes(b"")
    check(pool, "--metadata-only")
    assert "no faults" in capfd.readouterr().out


def test_parts_are_checked_in_processes_of_their_own(pool: Path, capfd: pytest.CaptureFixture[str]) -> None:
    app(["pool", "check", str(pool), "--jobs", "2"], standalone_mode=False)
    assert "no faults" in capfd.readouterr().out


def _metadata(pool: Path) -> Path:
    return sorted((pool / "metadata").glob("*.parquet"))[1]


def _rewrite(pool: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(_metadata(pool))), _metadata(pool))


def _uids(pool: Path, uids: Callable[[list[str]], list[str | None]]) -> None:
    def change(table: pa.Table) -> pa.Table:
        column = pa.array(uids(table["uid"].to_pylist()), pa.string())
        return table.set_column(table.schema.get_field_index("uid"), "uid", column)

    _rewrite(pool, change)


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _stats(pool: Path, **changes: int) -> None:
    path = pool / "shards" / "00000002_stats.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _swap(pool: Path) -> None:
    one, other = (pool / "shards" / f"0000000{number}.tar" for number in (0, 2))
    one.rename(pool / "x")
    other.rename(one)
    (pool / "x").rename(other)


def _without_images(pool: Path) -> None:
    from ecodatum.pool.shards import ShardWriter, read_shard

    path = pool / "shards" / "00000002.tar"
    samples = list(read_shard(path))
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for number, sample in enumerate(samples):
            members = {"png": b"" if number == 0 else sample.members["png"], **sample.members}
            if number == 1:
                members.pop("png")
            if number == 0:
                members["png"] = b""
            writer.write(sample.key, members)
        writer.close()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated metadata": (lambda pool: _cut(_metadata(pool), 900), r"1\.parquet: cannot be read as parquet"),
    "a page of it damaged": (
        lambda pool: _metadata(pool).write_bytes(
            _metadata(pool).read_bytes()[:4] + bytes(200) + _metadata(pool).read_bytes()[204:]
        ),
        r"1\.parquet: (damaged parquet|column uid)",
    ),
    "a column missing": (
        lambda pool: _rewrite(pool, lambda table: table.drop(["url"])),
        r"1\.parquet: has no column url",
    ),
    "a column of another type": (
        lambda pool: _rewrite(
            pool, lambda table: table.set_column(3, "original_width", pa.array(["a"] * 10, pa.string()))
        ),
        r"1\.parquet: column original_width is of type string",
    ),
    "no uids": (
        lambda pool: _rewrite(pool, lambda table: table.drop(["uid"])),
        r"1\.parquet: has no column uid",
    ),
    "a uid too short": (
        lambda pool: _uids(pool, lambda uids: [uids[0][1:], *uids[1:]]),
        r"1\.parquet: column uid: a uid is not 32 hex digits",
    ),
    "a uid null": (lambda pool: _uids(pool, lambda uids: [None, *uids[1:]]), r"1\.parquet: column uid"),
    "a uid twice": (
        lambda pool: _uids(pool, lambda uids: [uids[1], *uids[1:]]),
        r"1\.parquet: uid \w{32} is there 2 times",
    ),
    "a part twice": (
        lambda pool: [
            shutil.copy(file, file.with_name(f"2{file.name}"))
            for file in (pool / "metadata").glob(f"{_metadata(pool).stem}*")
        ],
        r"1\.parquet: uid \w{32} is there 2 times: also in 2",
    ),
    "truncated embeddings": (
        lambda pool: _cut(_metadata(pool).with_suffix(".npz"), 500),
        r"1\.npz: damaged embeddings",
    ),
    "embeddings of fewer rows": (
        lambda pool: np.savez(_metadata(pool).with_suffix(".npz"), b32_img=np.zeros((9, 8), np.float16)),
        r"1\.npz: b32_img has 9 rows, the metadata 10",
    ),
    "embeddings of two widths": (
        lambda pool: _embeddings(_metadata(pool).with_suffix(".npz"), 8, 8, 8, 7),
        r"1\.npz: l14_img is of width 8, l14_txt of 7",
    ),
    "a truncated shard": (
        lambda pool: _cut(pool / "shards" / "00000002.tar", 5000),
        r"00000002\.tar: (truncated|damaged) shard",
    ),
    "a shard missing": (
        lambda pool: (pool / "shards" / "00000002.tar").unlink(),
        r"00000002\.tar: is missing: the shards' numbers have a gap",
    ),
    "a shard without stats": (
        lambda pool: (pool / "shards" / "00000002_stats.json").unlink(),
        r"00000002_stats\.json: the shard has no stats file",
    ),
    "stats that don't add up": (
        lambda pool: _stats(pool, count=4),
        r"0\.parquet: 10 rows, but|1\.parquet: 10 rows, but",
    ),
    "stats of more images": (
        lambda pool: _stats(pool, successes=9),
        r"00000002\.tar: has 5 samples, its stats file tells of 9",
    ),
    "shards exchanged": (_swap, r"00000002\.tar: 4 of its 4 samples are not in 0+1\.parquet"),
    "samples without image": (_without_images, r"00000002\.tar: 2 samples have no image"),
    "a file that is no shard": (
        lambda pool: shutil.copy(pool / "shards" / "00000003.tar", pool / "shards" / "copy.tar"),
        r"copy\.tar: is not named by a number",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_file_named(
    pool: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage, message = FAULTS[fault]
    damage(pool)
    with pytest.raises(PoolError, match=r"\d+ faults?"):
        check(pool)
    assert re.search(message, capfd.readouterr().out)


def test_shards_that_belong_to_no_part_are_read_all_the_same(
    pool: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _cut(_metadata(pool), 900)
    _cut(pool / "shards" / "00000003.tar", 5000)
    with pytest.raises(PoolError, match="2 faults"):
        check(pool)
    assert "00000003.tar: truncated shard" in capfd.readouterr().out


def test_a_pool_of_which_no_metadata_can_be_read_is_told_so(pool: Path) -> None:
    for file in (pool / "metadata").glob("*.parquet"):
        _cut(file, 900)
    with pytest.raises(PoolError, match="2 faults"):
        check(pool)


def test_a_folder_that_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no pool here"):
        check(tmp_path)
