"""Cluster profiles are checked when they are read; the shipped ones hold."""

from pathlib import Path

import pytest

from ecodatum.content import content_root
from ecodatum.errors import ConfigError
from ecodatum.launch.profile import Profile, load_profile

STAGES = frozenset({"fetch", "score", "score_gpu", "reshard", "train", "evaluate"})


def write(folder: Path, text: str) -> str:
    path = folder / "profile.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", [path.stem for path in (content_root() / "slurm").glob("*.yaml")])
def test_shipped_profiles_can_be_read(name: str) -> None:
    assert isinstance(load_profile(name, stages=STAGES), Profile)


def test_a_stage_overrides_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    text = """
default: {partition: cpu, account: lab7, cpus: 4, sbatch: {mail-type: FAIL, exclusive: true}}
stages: {train: {partition: gpu, gpus: 8, nodes: 2, processes: 8, hours: 1.5, sbatch: {mail-type: ALL}}}
"""
    profile = load_profile(write(tmp_path, text), stages=STAGES)
    train = profile.resources("train")
    assert (train.partition, train.account, train.cpus, train.gpus) == ("gpu", "lab7", 4, 8)
    assert (train.minutes, train.world_size) == (90, 16)
    assert train.sbatch == {"mail-type": "ALL", "exclusive": True}
    assert profile.resources("evaluate") == profile.default


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("default: {partion: x}", "did you mean 'partition'"),
        ("default: {cpus: 0}", "default.cpus"),
        ("stages: {trian: {}}", "no stage 'trian'"),
        ("stages: {train: {gpus: many}}", "stages.train.gpus"),
        ("default: {hours: 0.01}", "signal_seconds"),
        ('setup: ["a\\nb"]', "setup"),
        ("max_array_size: 1", "max_array_size"),
        ("default: {partition: 'two words'}", "partition"),
        ("scratch: '\"; rm'", "scratch"),
    ],
)
def test_a_bad_profile_is_told_with_its_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"profile\.yaml") as raised:
        load_profile(write(tmp_path, text), stages=STAGES)
    assert told in str(raised.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="generic, private"):
        load_profile("no_such_cluster", stages=STAGES)
