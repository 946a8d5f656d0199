"""The baselines' subsets are those of DataComp's baselines.py, byte for byte."""

from pathlib import Path
from typing import Any

import pytest

from ecodatum.cli.curation import curate_pool

B32 = "metadata.clip_b32_similarity_score"
L14 = "metadata.clip_l14_similarity_score"


@pytest.mark.parametrize(
    ("recipe", "overrides", "peer"),
    [
        ("no_filter", {}, "no_filter"),
        ("basic_filter", {}, "basic_filter"),
        ("clip_score", {}, "clip_l14_frac0.3"),
        ("clip_score", {"rules.0.score": B32}, "clip_b32_frac0.3"),
        ("clip_score", {"rules.0.score": B32, "rules.0.at_least": 0.28}, "clip_b32_thr0.28"),
        ("clip_score", {"rules.0.score": L14, "rules.0.at_least": 0.243}, "clip_l14_thr0.243"),
    ],
)
def test_the_subset_is_datacomps(
    recipe: str, overrides: dict[str, Any], peer: str, reference: Path, tmp_path: Path
) -> None:
    out, pool = tmp_path / "subset.npy", reference / "datacomp" / "pool"
    curate_pool(recipe, pool, out, work=tmp_path / "work", jobs=0, device="cpu", overrides=overrides)
    assert out.read_bytes() == (reference / "datacomp" / "subsets" / f"{peer}.npy").read_bytes()
