"""The form in which shards are handed to the trainer, and how the batch is divided."""

import json
from pathlib import Path

import pytest

from ecodatum.errors import ConfigError, PoolError
from ecodatum.train.arguments import input_shards, open_clip_arguments
from ecodatum.train.scales import FIXED


def make(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def argument(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_a_folder_of_tars_is_a_brace_range_for_each_prefix(tmp_path: Path) -> None:
    make(tmp_path, "000.tar", "001.tar", "b-0.tar", "b-1.tar", "b-2.tar", "001_stats.json")
    assert input_shards(tmp_path)[0] == f"{tmp_path}/{{000..001}}.tar::{tmp_path}/b-{{0..2}}.tar"


def test_sub_folders_are_read_through_their_meta_json(tmp_path: Path) -> None:
    for name in ("part_b", "part_a"):
        folder = make(tmp_path / name, "00000000.tar", "00000001.tar")
        meta = {"output_shard_count": 2, "output_shard_format": "{:08d}.tar"}
        (folder / "meta.json").write_text(json.dumps(meta))
    assert input_shards(tmp_path)[0] == "::".join(
        f"{tmp_path}/{name}/{{00000000..00000001}}.tar" for name in ("part_a", "part_b")
    )


def test_several_sources_are_joined_with_their_weights(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", "0.tar"), make(tmp_path / "other", "0.tar", "c-0.tar")
    shards, weights = input_shards(f"{one}::{other}", "1::0.5")
    assert shards.count("::") == 2
    assert weights == "1::0.5::0.5"


def test_tars_in_a_bucket_become_a_pipe() -> None:
    source = "s3://bucket/folder/{000..019}.tar"
    assert input_shards(source)[0] == f"pipe:aws s3 cp {source} -"


def test_a_gap_in_the_numbers_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "000.tar", "002.tar")
    with pytest.raises(PoolError, match=r"1 shards are missing: 001\.tar"):
        input_shards(tmp_path)


def test_a_shard_that_meta_json_names_must_be_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "part", "00000000.tar")
    (folder / "meta.json").write_text('{"output_shard_count": 2, "output_shard_format": "{:08d}.tar"}')
    with pytest.raises(PoolError, match="1 of the 2 shards"):
        input_shards(tmp_path)


@pytest.mark.parametrize("meta", ["", "{}", "[]", '{"output_shard_count": 0, "output_shard_format": "{}"}'])
def test_an_unusable_meta_json_is_an_error(tmp_path: Path, meta: str) -> None:
    (make(tmp_path / "part") / "meta.json").write_text(meta)
    with pytest.raises(PoolError):
        input_shards(tmp_path)


def test_weights_that_do_not_fit_the_sources_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 weights for 2 sources"):
        input_shards(f"{tmp_path}::{tmp_path}", "1")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no such folder"):
        input_shards(tmp_path / "absent")


def test_the_batch_is_divided_over_processes_and_steps(tmp_path: Path) -> None:
    make(tmp_path, "0.tar")
    arguments = open_clip_arguments(
        FIXED["medium"], tmp_path, "out", model="ViT-B-32", name="run", world_size=8, accumulation=2
    )
    assert argument(arguments, "--batch-size") == "256"
    assert argument(arguments, "--accum-freq") == "2"
    with pytest.raises(ConfigError, match="does not divide"):
        open_clip_arguments(
            FIXED["medium"], tmp_path, "out", model="ViT-B-32", name="run", world_size=6, accumulation=1
        )
