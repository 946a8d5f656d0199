from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ecodatum.errors import AssetError
from ecodatum.operators.icc import Icc, IccParameters
from tests.operators.tiny_samples import batch
from tests.operators.tiny_transformers import save_tiny_icc

CAPTIONS = ["a red dog", "photo of two cats", "", "a red dog", "dog " * 60, "ün\ngewöhnlich"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_icc(tmp_path_factory.mktemp("icc"))


def operator(folder: Path, **parameters: Any) -> Icc:
    icc = Icc(IccParameters(model=str(folder), **parameters))
    icc.prepare("cpu")
    return icc


def scores(icc: Icc, captions: list[str | None]) -> list[float | None]:
    found: list[float | None] = icc.score(batch(text=captions)).values.column("score").to_pylist()
    return found


def expected(folder: Path) -> list[float]:
    """What the model gives for one caption after the other, as its card shows."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        lines = [tokenizer([c], truncation=True, return_tensors="pt") for c in CAPTIONS]
        return [float(model(**line).logits[0, 0]) for line in lines]


def test_the_score_is_the_models_output_for_the_caption_alone(folder: Path) -> None:
    found = scores(operator(folder), list(CAPTIONS))
    assert found == pytest.approx(expected(folder), abs=1e-5)
    assert len({round(value or 0, 3) for value in found}) > 3  # the captions are told apart


def test_equal_captions_have_equal_scores_and_a_run_repeats_to_the_bit(folder: Path) -> None:
    icc = operator(folder)
    first = scores(icc, list(CAPTIONS))
    assert first[0] == first[3]
    assert scores(operator(folder), list(CAPTIONS)) == first


def test_a_sample_without_a_caption_has_no_score(folder: Path) -> None:
    icc = operator(folder)
    found = icc.score(batch(text=["a dog", None]))
    assert found.values.column("score").is_null().to_pylist() == [False, True]
    assert (found.faults[0].rows.tolist(), found.faults[0].reason) == ([1], "no caption")
    for captions in ([], [None, None]):
        nothing = icc.score(batch(text=pa.array(captions, pa.string())))
        assert nothing.values.column("score").to_pylist() == captions


def test_half_precision_is_near_the_full_one(folder: Path) -> None:
    full, half = (np.array(scores(operator(folder, precision=p), list(CAPTIONS))) for p in ("fp32", "bf16"))
    assert not np.array_equal(full, half)
    assert np.abs(full - half).max() < 0.05


def test_the_fingerprint_follows_the_model_and_not_its_place(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    mark = operator(folder).fingerprint
    assert Icc(IccParameters(model=str(moved))).fingerprint == mark
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert Icc(IccParameters(model=str(moved))).fingerprint != mark


def test_the_model_is_an_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match=r"icc: model .* not found\n.*run: ecodatum assets fetch icc"):
        Icc(IccParameters())
    monkeypatch.setenv("ECODATUM_ASSET_ICC", str(save_tiny_icc(tmp_path / "mine")))
    operator_of_mine = Icc(IccParameters())
    assert {path.parent.name for path in operator_of_mine.assets["model"]} == {"mine"}
    assert all(len(sha) == 64 for sha in operator_of_mine.checksums()["model"])


@pytest.mark.parametrize("damage", ["truncated weights", "no weights", "no config"])
def test_a_damaged_folder_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:500])
    else:
        (weights if damage == "no weights" else config).unlink()
    with pytest.raises(AssetError, match=f"{tmp_path}: not a model that transformers can load"):
        operator(tmp_path)


def test_a_model_without_a_head_is_refused(folder: Path, tmp_path: Path) -> None:
    import transformers

    transformers.RobertaModel.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(AssetError, match=r"of the model's weights are not in the file, such as classifier"):
        operator(tmp_path)
