"""The recipes of later papers select what their formulas say, with scores that are computed here anew."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from scipy.special import logsumexp

from ecodatum.cli.curation import curate_pool
from ecodatum.errors import AssetError
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.pool import open_pool
from tests.conftest import MakePool
from tests.operators.tiny_samples import save_tiny_clip

Floats = npt.NDArray[Any]

ROWS, WIDTH = 60, 12
TARGETS = np.random.default_rng(9).normal(size=(40, WIDTH)).astype(np.float32)


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    """One part with embeddings of image and caption."""
    path = make_pool(rows=ROWS, parts=1)
    draw = np.random.default_rng(0)
    image, noise = (draw.normal(size=(ROWS, WIDTH)) for _ in range(2))
    rows = {"l14_img": image, "l14_txt": image + noise}
    (part,) = open_pool(path).parts
    unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in rows.items()}
    np.savez(part.embeddings, **{k: v.astype(np.float16) for k, v in unit.items()})
    return path


def curated(recipe: str, pool: Path, folder: Path, **overrides: Any) -> Floats:
    """Return which rows of the pool's parts, in their order, are in the subset."""
    out = folder / "subset.npy"
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    curate_pool(recipe, pool, out, work=folder / "work", jobs=0, device="cpu", overrides=changes)
    columns = [pq.read_table(part.metadata)["uid"] for part in open_pool(pool).parts]
    uids = np.concatenate([uid_arrays.from_hex(column) for column in columns])
    return np.isin(uids, np.load(out))


def neg_clip_loss(pool: Path) -> Floats:
    """The paper's score with the whole part as the batch."""
    f, g = (np.load(open_pool(pool).parts[0].embeddings)[k].astype(float) for k in ("l14_img", "l14_txt"))
    logits = f @ g.T / 0.01
    return np.asarray(np.diagonal(f @ g.T) - 0.005 * (logsumexp(logits, 0) + logsumexp(logits, 1)))


def best(scores: Floats, count: int) -> Floats:
    reached: Floats = scores >= np.sort(scores)[::-1][count]
    return reached


def test_negcliploss_keeps_the_best_thirty_percent(pool: Path, tmp_path: Path) -> None:
    kept = curated("negcliploss", pool, tmp_path, operators__negcliploss__batch_size=ROWS)
    assert np.array_equal(kept, best(neg_clip_loss(pool), int(0.3 * ROWS)))


@pytest.mark.parametrize(("norm", "order"), [("inf", np.inf), (2, 2)])
def test_normsim_ranks_only_what_negcliploss_keeps(
    norm: Any, order: float, pool: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "targets.npy", TARGETS)
    kept = curated(
        "negcliploss_normsim",
        pool,
        tmp_path,
        operators__negcliploss__batch_size=ROWS,
        operators__normsim__targets=[str(tmp_path / "targets.npy")],
        operators__normsim__norm=norm,
    )
    first = best(neg_clip_loss(pool), int(0.3 * ROWS))
    image = np.load(open_pool(pool).parts[0].embeddings)["l14_img"].astype(float)
    near = np.where(first, np.linalg.norm(image @ TARGETS.T, ord=order, axis=1), -1)
    assert np.array_equal(kept, best(near, int(0.6667 * first.sum())))
    assert not np.array_equal(kept, first)


def test_without_targets_the_command_to_fetch_them_is_named(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path / "assets"))
    with pytest.raises(AssetError, match=r"ecodatum assets fetch in1k_clip_vit_l14_0\.pt"):
        curated("negcliploss_normsim", pool, tmp_path)


def test_jobs_change_no_byte(make_pool: MakePool, tmp_path: Path) -> None:
    path = make_pool(rows=24, parts=3)
    for number, part in enumerate(open_pool(path).parts):
        rows = np.random.default_rng(number).normal(size=(2, 24, WIDTH)).astype(np.float16)
        np.savez(part.embeddings, l14_img=rows[0], l14_txt=rows[1])
    changes = {"operators.negcliploss.batch_size": 5}
    subsets = []
    for jobs in (0, 2):
        out = tmp_path / f"{jobs}.npy"
        work = tmp_path / f"work{jobs}"
        curate_pool("negcliploss", path, out, work=work, jobs=jobs, device="cpu", overrides=changes)
        (scores,) = [sorted(folder.rglob("scores.parquet")) for folder in (work / "scores").iterdir()]
        subsets.append([out.read_bytes(), *(file.read_bytes() for file in scores)])
    assert len(subsets[0]) == 4
    assert subsets[0] == subsets[1]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_clip(tmp_path_factory.mktemp("dfn"))


def test_dfn_keeps_the_best_of_another_clip(
    make_pool: MakePool, network: tuple[Path, Path], tmp_path: Path
) -> None:
    path = make_pool(rows=20, parts=2, changes={3: {"image": None}})
    config, weights = network
    changes = {"operators__clip__model": str(config), "operators__clip__weights": str(weights)}
    kept = curated("dfn", path, tmp_path, **changes)
    files = sorted((tmp_path / "work" / "scores").rglob("scores.parquet"))
    scores = np.concatenate([pq.read_table(file)["similarity"].to_numpy() for file in files])
    assert np.flatnonzero(np.isnan(scores)).tolist() == [3]
    assert np.array_equal(kept, best(np.nan_to_num(scores, nan=-1), int(0.15 * 40)))


def test_dfns_weights_are_an_asset_that_can_be_replaced(
    make_pool: MakePool, network: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path / "assets"))
    with pytest.raises(AssetError, match="ecodatum assets fetch dfn_public_vit_b32"):
        curated("dfn", make_pool("first"), tmp_path)
    config, weights = network
    monkeypatch.setenv("ECODATUM_ASSET_DFN_PUBLIC_VIT_B32", str(weights))
    kept = curated("dfn", make_pool("second"), tmp_path, operators__clip__model=str(config))
    assert kept.sum() == int(0.15 * 48) + 1
