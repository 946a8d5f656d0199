import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecodatum.cli import main
from ecodatum.curate.centroids import Settings, kmeans, sample_embeddings
from ecodatum.errors import ConfigError, PoolError
from ecodatum.operators.features import read_centroids
from ecodatum.pool.pool import Pool, open_pool
from tests.conftest import MakePool

WIDTH = 8

#: Rows whose caption DataComp's clustering leaves out: another language, one token, five characters, none.
BAD_CAPTIONS = {3: "ein Foto von einem schönen roten Ball", 5: "disc", 30: "a d", 41: None}


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    """Two parts of 24 rows; the embedding of row i is i in every dimension, and row 7 has a NaN."""
    path = make_pool(changes={row: {"text": text} for row, text in BAD_CAPTIONS.items()})
    for part, file in enumerate(sorted((path / "metadata").glob("*.parquet"))):
        rows = np.arange(24) + 24.0 * part
        rows[rows == 7] = np.nan
        np.savez(file.with_suffix(".npz"), l14_img=np.repeat(rows[:, None], WIDTH, 1).astype(np.float16))
    return open_pool(path)


def sampled(pool: Pool, **settings: Any) -> Any:
    return sample_embeddings(pool, Settings(1, **settings), lambda rows: None)


def test_the_sample_has_what_passes_the_caption_rules_and_is_finite(pool: Pool) -> None:
    sample = sampled(pool)
    assert sample.vectors[:, 0].tolist() == [i for i in range(48) if i != 7 and i not in BAD_CAPTIONS]
    assert (sample.rows, sample.passing, sample.not_finite) == (48, 44, 1)
    assert sample.vectors.dtype == np.float32


def test_every_caption_can_be_taken(pool: Pool) -> None:
    assert len(sampled(pool, captions=False).vectors) == 47


def test_a_share_is_drawn_from_each_part_by_the_seed(pool: Pool) -> None:
    first, again, other = (sampled(pool, share=0.5, seed=seed).vectors[:, 0] for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    assert len(set(first)) == len(first)
    assert [int((first < 24).sum()), int((first >= 24).sum())] == [11, 11]


def test_the_progress_adds_up_to_the_pool(pool: Pool) -> None:
    told: list[int] = []
    sample_embeddings(pool, Settings(1), told.append)
    assert sum(told) == 48


def test_parts_of_different_width_are_refused(pool: Pool) -> None:
    np.savez(pool.parts[1].embeddings, l14_img=np.zeros((24, WIDTH + 1), np.float16))
    with pytest.raises(PoolError, match="differ in width"):
        sampled(pool)


BLOBS = np.concatenate(
    [np.random.default_rng(i).normal(10 * i, 1, (50, WIDTH)).astype(np.float32) for i in range(1, 5)]
)


def test_kmeans_finds_what_is_there_and_lowers_its_objective() -> None:
    told: list[float] = []
    centres = kmeans(BLOBS, Settings(4, iterations=12), progress=told.append)
    assert np.sort(centres.mean(axis=1)) == pytest.approx([10, 20, 30, 40], abs=0.5)
    assert len(told) == 12 and told[-1] < told[0]


def test_told_progress_changes_no_bit_of_faiss_own_clustering() -> None:
    import faiss

    vectors = np.random.default_rng(0).normal(size=(600, WIDTH)).astype(np.float32)
    vectors[:200] = vectors[0]  # leaves clusters empty, which faiss then splits
    whole: Any = faiss.Clustering(WIDTH, 40)
    whole.niter, whole.seed, whole.max_points_per_centroid = 20, 3, 10000000
    whole.train(vectors, faiss.IndexFlatL2(WIDTH))
    expected = faiss.vector_to_array(whole.centroids).reshape(40, WIDTH)
    assert np.array_equal(kmeans(vectors, Settings(40, seed=3)), expected)


def test_spherical_centres_have_length_one() -> None:
    lengths = np.linalg.norm(kmeans(BLOBS, Settings(4, spherical=True)), axis=1)
    assert lengths == pytest.approx(np.ones(4), abs=1e-6)


def test_more_clusters_than_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="201 clusters of 200 samples"):
        kmeans(BLOBS, Settings(201))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["ecodatum", "centroids", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_writes_centres_and_what_made_them(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "centres.npy"
    arguments = ["--pool", pool.path, "--clusters", 5, "--out", out, "--device", "cpu", "--iterations", 3]
    assert run(monkeypatch, *arguments) == 0
    centres = np.load(out)
    assert (centres.shape, centres.dtype) == ((5, WIDTH), np.float32)
    assert np.array_equal(read_centroids(out), centres)
    made = json.loads(out.with_suffix(".json").read_text())
    assert (made["pool_fingerprint"], made["sample"], made["rows_not_finite"]) == (pool.fingerprint, 43, 1)
    assert len(made["objectives"]) == 3
    before = out.read_bytes()
    run(monkeypatch, *arguments)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--sample-share", 1.5, "--sample-share: not above 0 and at most 1: 1.5"),
        ("--sample-share", 0, "--sample-share: not above 0 and at most 1: 0"),
        ("--out", "centres.pt", "--out centres.pt: does not end in .npy"),
        ("--device", "gpu", "use cpu, cuda or auto"),
        ("--embeddings", "l14", "there is no array l14\n  it has: l14_img"),
        ("--clusters", 49, "49 clusters of 43 samples"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    option: str,
    value: object,
    message: str,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "c" / "centres.npy"
    given = {"--pool": pool.path, "--clusters": 5, "--out": out, option: value}
    assert run(monkeypatch, *[part for pair in given.items() for part in pair]) == 1
    assert message in capsys.readouterr().err
    assert not out.parent.exists()
