"""Scales: DataComp's are fixed; one's own come from YAML, with errors that name the key."""

from pathlib import Path

import pytest

from ecodatum.errors import ConfigError
from ecodatum.train.scales import FIXED, load_scale
from tests.train.tiny_training import make_scale


def write(folder: Path, text: str) -> str:
    path = folder / "scale.yaml"
    path.write_text(text)
    return str(path)


VALID = "name: mine\nmodel: ViT-B-32\nbatch_size: 8\nsamples_seen: 80\nlearning_rate: 1.0e-3\nwarmup: 1\n"


def test_datacomps_scales_are_those_of_its_paper() -> None:
    rows = {
        name: (scale.model, scale.batch_size, scale.samples_seen, scale.learning_rate, scale.beta2)
        for name, scale in FIXED.items()
    }
    assert rows == {
        "debug": ("ViT-B-32", 1024, 128_000, 1e-4, None),
        "small": ("ViT-B-32", 4096, 12_800_000, 5e-4, None),
        "medium": ("ViT-B-32", 4096, 128_000_000, 5e-4, None),
        "large": ("ViT-B-16", 8192, 1_280_000_000, 5e-4, None),
        "xlarge": ("ViT-L-14", 90_112, 12_800_000_000, 1e-3, 0.95),
    }
    assert all(scale.comparable for scale in FIXED.values())


def test_a_changed_fixed_scale_is_not_comparable() -> None:
    assert not load_scale("small").model_copy(update={"learning_rate": 1e-3}).comparable


def test_a_scale_of_ones_own_is_not_comparable(tmp_path: Path) -> None:
    scale = load_scale(write(tmp_path, VALID))
    assert (scale.name, scale.checkpoints, scale.comparable) == ("mine", 5, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VALID + "learning_rte: 1\n", "learning_rte.*learning_rate"),
        (VALID.replace("batch_size: 8", "batch_size: many"), "batch_size.*integer.*many"),
        (VALID.replace("warmup: 1\n", ""), "'warmup' is missing"),
        (VALID.replace("name: mine", "name: small"), "name.*fixed"),
        (VALID.replace("samples_seen: 80", "samples_seen: 30"), "less than one batch"),
        (VALID + "crop_scale: [1.0, 0.5]\n", "crop_scale"),
        (VALID + "comparable: true\n", "comparable"),
        (VALID + "folder: /\n", "folder"),
        ("- a list\n", "mapping"),
    ],
)
def test_a_bad_scale_is_an_error_that_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        load_scale(path)
    assert "scale.yaml" in str(error.value)


def test_an_unknown_name_lists_the_fixed_ones() -> None:
    with pytest.raises(ConfigError, match="small, medium"):
        load_scale("smal")


def test_identity_follows_the_models_content_and_not_its_place(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        make_scale(tmp_path / name)
    here, there = (load_scale(str(tmp_path / name / "scale.yaml")) for name in ("here", "there"))
    (tmp_path / "there" / "bpe.txt.gz").write_bytes((tmp_path / "here" / "bpe.txt.gz").read_bytes())
    assert here.identity() == there.identity()
    (tmp_path / "there" / "bpe.txt.gz").write_bytes(b"another vocabulary")
    assert here.identity() != there.identity()
