"""A labelled set is a pool, its good pairs are untouched, and its bad ones are bad in the way they say."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ecodatum.curate.drawing import draw_samples, of_subset, of_top
from ecodatum.curate.labelled_set import make_labelled_set
from ecodatum.curate.labels import read_labels
from ecodatum.curate.spoiling import FAULTS, degrade, exchange
from ecodatum.errors import ConfigError
from ecodatum.operators.image_quality import ImageQuality
from ecodatum.operators.operator import create
from ecodatum.operators.score import score
from ecodatum.pool.pool import Pool, open_pool
from ecodatum.pool.resharding import sample_uid
from ecodatum.pool.shards import Sample, read_shard
from ecodatum.pool.subsets import write_subset
from ecodatum.pool.uids import from_hex
from tests.conftest import MakePool


def samples(pool: Pool) -> dict[str, Sample]:
    shards = [shard.path for part in pool.parts for shard in part.shards]
    return {sample_uid(sample, path): sample for path in shards for sample in read_shard(path)}


def table(folder: Path) -> pd.DataFrame:
    labels = pd.read_csv(folder / "labels.csv").set_index("uid")
    rows = pq.read_table(folder / "metadata").to_pandas().set_index("uid")
    joined: pd.DataFrame = rows.join(labels)
    return joined


@pytest.fixture
def made(make_pool: MakePool, tmp_path: Path) -> tuple[Pool, Path]:
    pool = open_pool(make_pool(changes={3: {"image": None}, 5: {"image": b"no image"}, 7: {"text": " "}}))
    make_labelled_set(pool, tmp_path / "set", count=40, seed=1, eligible=None)
    return pool, tmp_path / "set"


def test_it_is_a_pool_with_a_label_for_each_sample(made: tuple[Pool, Path]) -> None:
    opened = open_pool(made[1])
    assert opened.rows == 40 and len(samples(opened)) == 40
    labels = read_labels(made[1])
    assert len(labels.uids) == 40 and labels.good.sum() == 20
    assert set(table(made[1]).index) == set(samples(opened))
    counts = table(made[1])["source"].value_counts()
    assert (
        counts["trusted"] == 20 and counts["exchanged"] == 10 and all(counts[fault] == 2 for fault in FAULTS)
    )


def test_good_pairs_are_the_pools_own_bytes(made: tuple[Pool, Path]) -> None:
    pool, set_ = samples(made[0]), samples(open_pool(made[1]))
    good = table(made[1]).query("label == 'keep'")
    assert all(pool[uid].members == set_[uid].members for uid in good.index)
    assert good["clip_l14_similarity_score"].notna().all()


def test_spoiled_pairs_have_uids_of_their_own_and_no_similarity(made: tuple[Pool, Path]) -> None:
    bad = table(made[1]).query("label == 'drop'")
    assert not set(bad.index) & set(samples(made[0]))
    assert bad["clip_b32_similarity_score"].isna().all() and bad["clip_l14_similarity_score"].isna().all()


def test_exchanged_captions_are_anothers_in_shard_json_and_metadata(made: tuple[Pool, Path]) -> None:
    images = {s.image: s.members["txt"].decode() for s in samples(made[0]).values()}
    set_ = samples(open_pool(made[1]))
    for uid, row in table(made[1]).query("source == 'exchanged'").iterrows():
        sample = set_[str(uid)]
        caption = sample.members["txt"].decode()
        assert caption != images[sample.image] and caption in images.values()
        assert row["text"] == caption and f'"{caption}"'.encode() in sample.members["json"]


def test_operators_score_it_and_find_the_faults(made: tuple[Pool, Path], tmp_path: Path) -> None:
    (part,) = open_pool(made[1]).parts
    quality = create("image_quality", {})
    assert isinstance(quality, ImageQuality)
    output = tmp_path / "quality.parquet"
    score(part, {"image_quality": quality}, {"image_quality": output}, device="cpu")
    rows = pq.read_table(output).to_pandas()
    rows["source"] = table(made[1])["source"].to_numpy()
    mean = rows.drop(columns=["uid_high", "uid_low"]).groupby("source").mean(numeric_only=True)
    for fault, column in (
        ("dark", "dark"),
        ("washed_out", "light"),
        ("low_information", "low_information"),
        ("blurred", "blurry"),
        ("stretched", "odd_aspect_ratio"),
    ):
        assert mean.loc[fault, column] < mean.loc["trusted", column], fault
    assert (rows.loc[rows["source"] == "stretched", "odd_aspect_ratio"] < 0.33).all()


def test_the_same_seed_makes_the_same_bytes(make_pool: MakePool, tmp_path: Path) -> None:
    pool = open_pool(make_pool())
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_labelled_set(pool, tmp_path / name, count=20, seed=seed, eligible=None)
    first, again, other = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        for name in ("a", "b", "c")
    )
    assert first == again and first != other


def test_only_trusted_samples_are_drawn(make_pool: MakePool, tmp_path: Path) -> None:
    pool = open_pool(make_pool())
    rows = pq.read_table(pool.path / "metadata").to_pandas().sort_values("clip_l14_similarity_score")
    best = set(rows["uid"].tail(15))
    top = {d.uid for d in draw_samples(pool, 14, 0, of_top(pool, "clip_l14_similarity_score", 14 / 48))}
    assert top <= best
    write_subset(tmp_path / "some.npy", np.sort(from_hex(pq.read_table(pool.path / "metadata")["uid"])[:10]))
    chosen = {d.uid for d in draw_samples(pool, 10, 0, of_subset(tmp_path / "some.npy"))}
    assert chosen == set(pq.read_table(pool.path / "metadata")["uid"].to_pylist()[:10])


def test_what_cannot_be_made_is_explained(make_pool: MakePool, tmp_path: Path) -> None:
    pool = open_pool(make_pool())
    with pytest.raises(ConfigError, match="has 48 such samples, not 60"):
        make_labelled_set(pool, tmp_path / "set", count=60, seed=0, eligible=None)
    assert not (tmp_path / "set").exists()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        make_labelled_set(pool, tmp_path / "set", count=10, seed=0, eligible=None)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.integers(0, 5))
def test_no_pair_keeps_its_caption(captions: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    if 2 * max(map(captions.count, captions)) > len(captions):
        with pytest.raises(ConfigError, match="cannot exchange"):
            exchange(captions, rng)
        return
    taken = exchange(captions, rng)
    assert sorted(taken) == list(range(len(captions)))
    assert all(captions[i] != captions[j] for i, j in enumerate(taken))


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 48)])
def test_images_of_any_mode_and_size_are_degraded(fault: str, mode: str, size: tuple[int, int]) -> None:
    data, found = degrade(Image.new(mode, size), fault)
    assert Image.open(io.BytesIO(data)).size == found
