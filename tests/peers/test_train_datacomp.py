"""The trainer's arguments against those that DataComp's train.py passes to open_clip."""

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecodatum.train.arguments import input_shards, open_clip_arguments
from ecodatum.train.scales import FIXED


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(20):
        (tmp_path / f"{number:08d}.tar").touch()
    return tmp_path


@pytest.mark.parametrize("name", FIXED)
def test_arguments_equal_datacomps_at_every_scale(name: str, reference: Path, data: Path) -> None:
    theirs = json.loads((reference / "datacomp" / "train_argv.json").read_text())
    assert set(theirs) == set(FIXED)
    scale = FIXED[name]
    ours = open_clip_arguments(scale, data, "OUTPUT_DIR", model=scale.model, name=f"{name}_scale")
    assert [argument.replace(str(data), "DATA_DIR") for argument in ours] == theirs[name]


@pytest.fixture
def peer() -> Callable[..., Any]:
    """DataComp's `get_input_shards`, taken out of its script, which runs only with its old packages."""
    home = Path(os.environ.get("DATACOMP_HOME", ""))
    if "DATACOMP_HOME" not in os.environ or not (home / "train.py").is_file():
        pytest.skip("DataComp's checkout is absent (set DATACOMP_HOME)")
    module = ast.parse((home / "train.py").read_text())
    wanted = {"prepare_filename", "split_filename", "get_input_shards", "path_or_cloudpath"}
    module.body = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    names: dict[str, Any] = {"Path": Path}
    exec("import collections, json, re", names)
    exec(compile(module, "train.py", "exec"), names)
    function: Callable[..., Any] = names["get_input_shards"]
    return function


def test_folders_weights_and_joins_are_read_as_datacomp_reads_them(
    peer: Callable[..., Any], tmp_path: Path
) -> None:
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    flat.mkdir()
    for name in ("000.tar", "001.tar", "other-00.tar", "other-01.tar"):
        (flat / name).touch()
    for part, count in (("a", 2), ("b", 3)):
        (nested / part).mkdir(parents=True)
        for number in range(count):
            (nested / part / f"{number:08d}.tar").touch()
    meta = {"output_shard_count": 2, "output_shard_format": "{:08d}.tar"}
    (nested / "a" / "meta.json").write_text(json.dumps(meta))
    single = flat / "000.tar"
    sources: list[tuple[str, str | None]] = [
        (str(flat), None),
        (str(flat), "2"),
        (str(single), None),
        (f"{flat}::{single}", "1::0.5"),
        (f"{flat}::{single}", None),
    ]
    for source, weights in sources:
        theirs = peer(source if "::" in source else Path(source), weights)
        assert input_shards(source, weights) == tuple(theirs)
    theirs, _ = peer(nested, None)  # in the order that the file system lists the folders
    assert sorted(input_shards(nested)[0].split("::")) == sorted(theirs.split("::"))
