from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ecodatum.errors import AssetError, ConfigError, PoolError
from ecodatum.operators.operator import EmbeddingsOperator, create

DRAW = np.random.default_rng(0)
TARGETS = DRAW.normal(size=(300, 12)).astype(np.float32)
IMAGES = DRAW.normal(size=(50, 12)).astype(np.float16)


@pytest.fixture
def targets(tmp_path: Path) -> list[str]:
    """The targets in three files: as DataComp gives them, in half precision, and npy."""
    torch.save({"image_features": torch.from_numpy(TARGETS[:100])}, tmp_path / "a.pt")
    torch.save({"image_features": torch.from_numpy(TARGETS[100:200]).half()}, tmp_path / "b.pt")
    np.save(tmp_path / "c.npy", TARGETS[200:])
    return [str(tmp_path / name) for name in ("a.pt", "b.pt", "c.npy")]


def operator(targets: list[str], **parameters: Any) -> EmbeddingsOperator:
    made = create("normsim", {"targets": targets, **parameters})
    assert isinstance(made, EmbeddingsOperator)
    made.prepare("cpu")
    return made


def scored(made: EmbeddingsOperator, images: npt.NDArray[Any] = IMAGES) -> Any:
    return made.score({"l14_img": images}).values.column(0)


@pytest.mark.parametrize(("norm", "order"), [(2, 2), ("inf", np.inf)])
def test_it_is_the_norm_of_all_similarities(norm: Any, order: float, targets: list[str]) -> None:
    expected = np.linalg.norm(IMAGES.astype(np.float64) @ TARGETS.T, ord=order, axis=1)
    assert scored(operator(targets, norm=norm)).to_numpy() == pytest.approx(expected, rel=1e-3)
    exact = operator([targets[0], targets[2]], norm=norm)  # those in single precision
    some = np.concatenate([TARGETS[:100], TARGETS[200:]])
    expected = np.linalg.norm(IMAGES.astype(np.float64) @ some.T, ord=order, axis=1)
    assert scored(exact).to_numpy() == pytest.approx(expected, rel=1e-6)


def test_blocks_of_targets_change_nothing(targets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {norm: scored(operator(targets, norm=norm)).to_numpy() for norm in (2, "inf")}
    monkeypatch.setattr("ecodatum.operators.normsim._TARGETS", 7)
    for norm, expected in whole.items():
        assert scored(operator(targets, norm=norm)).to_numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norm", [2, "inf"])
def test_a_damaged_embedding_has_no_score(norm: Any, targets: list[str]) -> None:
    images = IMAGES.copy()
    images[3, 1] = np.nan
    result = operator(targets, norm=norm).score({"l14_img": images})
    assert np.flatnonzero(result.values.column(0).is_null()).tolist() == [3]
    assert result.faults[0].reason == "an embedding is not finite"


def test_no_rows_have_no_scores(targets: list[str]) -> None:
    assert len(scored(operator(targets), IMAGES[:0])) == 0


def test_the_files_content_and_not_their_path_counts(targets: list[str], tmp_path: Path) -> None:
    other = tmp_path / "moved.npy"
    np.save(other, TARGETS[200:])
    before = operator(targets).fingerprint
    assert operator([*targets[:2], str(other)]).fingerprint == before
    np.save(other, TARGETS[200:] + 1)
    assert operator([*targets[:2], str(other)]).fingerprint != before


def test_embeddings_of_another_model_are_refused(targets: list[str]) -> None:
    with pytest.raises(PoolError, match="embeddings of width 5, but targets of 12"):
        scored(operator(targets), np.zeros((3, 5), np.float16))


def test_target_files_that_differ_or_are_none_are_refused(targets: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "narrow.npy", np.zeros((3, 5), np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((3, 12), np.int64))
    with pytest.raises(AssetError, match=r"narrow\.npy: 3 features of width 5"):
        operator([*targets, str(tmp_path / "narrow.npy")])
    with pytest.raises(AssetError, match=r"whole\.npy: not image features"):
        operator([str(tmp_path / "whole.npy")])
    with pytest.raises(AssetError, match="target features not found"):
        operator(["nosuch.npy"])
    with pytest.raises(ConfigError, match="norm"):
        operator(targets, norm=3)
