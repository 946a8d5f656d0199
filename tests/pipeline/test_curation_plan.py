"""What a plan of curation tells apart: parts, keys, content, sets that are not there."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ecodatum.curate.recipe import load_recipe
from ecodatum.errors import ConfigError
from ecodatum.pipeline.curation import Curation
from ecodatum.pipeline.experiment import Filter
from ecodatum.pipeline.graph import resolve_device
from ecodatum.pool.pool import open_pool
from tests.conftest import MakePool


def _subset(folder: Path, pool: Path, operators: dict[str, Any]) -> str:
    """Return the fingerprint of the subset that a rule on `a.character_ratio` gives."""
    rule = {"score": "a.character_ratio", "at_most": 0.2}
    recipe = {"name": "r", "title": "R", "source": "a test", "operators": operators, "rules": [rule]}
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    curation = Curation(open_pool(pool), folder / "work", folder / "logs", "cpu")
    curation.plan([Filter(name="r", title="R", recipe=load_recipe(str(path)))])
    return curation.subsets["r"].fingerprint


def test_which_operator_stands_behind_a_key_counts(make_pool: MakePool, tmp_path: Path) -> None:
    short, long = ({"operator": "repetition", "characters": n} for n in (2, 12))
    pool = make_pool()
    assert _subset(tmp_path, pool, {"a": short, "b": long}) != _subset(
        tmp_path, pool, {"b": short, "a": long}
    )


def test_parts_of_the_same_file_name_have_names_of_their_own(make_pool: MakePool) -> None:
    pool = make_pool()
    for number, file in enumerate(sorted((pool / "metadata").glob("*.parquet"))):
        (pool / "metadata" / f"part_{number}").mkdir()
        file.rename(pool / "metadata" / f"part_{number}" / "00000.parquet")
    assert [part.name for part in open_pool(pool).parts] == ["part_0-00000", "part_1-00000"]


def test_a_shard_mended_in_place_is_another_shard(make_pool: MakePool) -> None:
    pool = make_pool()
    before = open_pool(pool).parts[0].shards_fingerprint
    tar = pool / "shards" / "00000000.tar"
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    assert open_pool(pool).parts[0].shards_fingerprint != before


def test_a_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="use cpu, cuda or auto"):
        resolve_device("gpu")
