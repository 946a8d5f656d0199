"""Shards that are indexed at once hold what a tar reader finds in them, however they were written."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.errors import PoolError
from ecodatum.pool.shards import Sample, ShardWriter, read_shard
from ecodatum.pool.tar_index import index_shard


def _tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _samples(path: Path) -> list[Sample]:
    index = index_shard(path)
    return [Sample(index.key(sample), index.members(sample)) for sample in range(index.samples)]


def test_the_peers_shards_are_read_as_a_tar_reader_reads_them(reference: Path) -> None:
    for path in sorted((reference / "datacomp" / "pool" / "shards").glob("*.tar")):
        assert _samples(path) == list(read_shard(path))


NAMES = st.lists(
    st.from_regex(r"([a-c]{1,2}/)?\.?[ab]{1,2}(\.[a-zA-Z]{1,3}){0,2}", fullmatch=True), max_size=12
)


@settings(deadline=None)
@given(NAMES, st.integers(0, 1500))
def test_any_names_and_sizes_make_the_samples_that_a_tar_reader_makes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], size: int
) -> None:
    members = [(name, f"{number}".encode() * (size % (number + 2))) for number, name in enumerate(names)]
    path = _tar(tmp_path_factory.mktemp("tar") / "a.tar", members)
    assert _samples(path) == list(read_shard(path))


def test_a_block_that_looks_like_a_header_inside_an_image_is_no_member(tmp_path: Path) -> None:
    inner = io.BytesIO()
    ShardWriter(inner).write("evil", {"jpg": b"x" * 100, "json": b"{}"})
    path = _tar(tmp_path / "a.tar", [("0.jpg", inner.getvalue()), ("0.json", b"{}")])
    assert [list(sample.members) for sample in _samples(path)] == [["jpg", "json"]]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read(tmp_path: Path, form: int) -> None:
    name = "folder/" + "n" * 150
    path = _tar(tmp_path / "a.tar", [(f"{name}.jpg", b"1"), (f"{name}.json", b"2"), ("k.jpg", b"3")], form)
    assert [sample.members for sample in _samples(path)] == [{"jpg": b"1", "json": b"2"}, {"jpg": b"3"}]


def test_folders_and_links_between_the_members_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        info = tarfile.TarInfo("d/0.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert [sample.members for sample in _samples(path)] == [{"jpg": b"abc"}]


def test_an_empty_tar_has_no_samples(tmp_path: Path) -> None:
    assert _samples(_tar(tmp_path / "a.tar", [])) == []


def test_a_header_whose_sum_is_wrong_is_damage(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [("0.jpg", b"1"), ("1.jpg", b"2")])
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with pytest.raises(PoolError, match=r"a.tar: (damaged|truncated) shard"):
        index_shard(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"a.tar: no such shard"):
        index_shard(tmp_path / "a.tar")


def test_the_writer_writes_what_tarfile_writes(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.tar"
    members = {"jpg": np.random.default_rng(0).bytes(1000), "json": json.dumps({"a": 1}).encode(), "txt": b""}
    with tarfile.open(theirs, "w", format=tarfile.USTAR_FORMAT) as tar:
        for extension, data in members.items():
            info = tarfile.TarInfo(f"key.{extension}")
            info.size, info.mode, info.uname, info.gname = len(data), 0o444, "bigdata", "bigdata"
            tar.addfile(info, io.BytesIO(data))
    ours = io.BytesIO()
    writer = ShardWriter(ours)
    writer.write("key", members)
    writer.close()
    assert ours.getvalue() == theirs.read_bytes()
