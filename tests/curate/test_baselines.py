"""The baselines' subsets are those of DataComp's baselines.py, byte for byte."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ecodatum.cli.curation import curate_pool
from tests.operators.assets import require_wordnet

B32 = "metadata.clip_b32_similarity_score"
L14 = "metadata.clip_l14_similarity_score"


def check(recipe: str, overrides: dict[str, Any], peer: str, reference: Path, folder: Path) -> None:
    out, pool = folder / "subset.npy", reference / "datacomp" / "pool"
    curate_pool(recipe, pool, out, work=folder / "work", jobs=0, device="cpu", overrides=overrides)
    assert out.read_bytes() == (reference / "datacomp" / "subsets" / f"{peer}.npy").read_bytes()


@pytest.mark.parametrize("clip_score", ["clip_score", "clip_score_l14_30"])
@pytest.mark.parametrize(
    ("overrides", "peer"),
    [
        ({}, "clip_l14_frac0.3"),
        ({"rules.0.score": B32}, "clip_b32_frac0.3"),
        ({"rules.0.score": B32, "rules.0.at_least": 0.28}, "clip_b32_thr0.28"),
        ({"rules.0.score": L14, "rules.0.at_least": 0.243}, "clip_l14_thr0.243"),
    ],
)
def test_a_clip_score_subset_is_datacomps(
    clip_score: str, overrides: dict[str, Any], peer: str, reference: Path, tmp_path: Path
) -> None:
    check(clip_score, overrides, peer, reference, tmp_path)


@pytest.mark.parametrize("recipe", ["no_filter", "basic_filter"])
def test_the_subset_is_datacomps(recipe: str, reference: Path, tmp_path: Path) -> None:
    check(recipe, {}, recipe, reference, tmp_path)


@pytest.mark.parametrize("repeat", [False, True])
def test_the_text_based_subset_is_datacomps(repeat: bool, reference: Path, tmp_path: Path) -> None:
    require_wordnet()
    overrides = {"operators.wordnet.repeat_suffixes": repeat}
    check("text_based", overrides, "text_based", reference, tmp_path)


def test_the_laion2b_subset_is_datacomps(reference: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("gcld3") is None:
        pytest.skip("the extra gcld3 is not installed")
    check("laion2b", {}, "laion2b", reference, tmp_path)


@pytest.mark.parametrize(
    ("recipe", "peer"),
    [
        ("image_based", "image_based"),
        ("image_based_intersect_clip_score_l14_30", "image_based_intersect_clip_score"),
    ],
)
def test_the_image_based_subset_is_datacomps(
    recipe: str, peer: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = reference / "datacomp" / "assets"  # small stand-ins, so not under the assets' own names
    for i in range(5):
        monkeypatch.setenv(
            f"ECODATUM_ASSET_IN1K_CLIP_VIT_L14_{i}_PT", str(assets / f"in1k_clip_vit_l14_{i}.pt")
        )
    monkeypatch.setenv("ECODATUM_ASSET_SMALL_CENTROIDS_L14_PT", str(assets / "small_centroids.pt"))
    check(recipe, {}, peer, reference, tmp_path)
