"""The nano benchmark's files are what its README says: layout, shares of faults, separation, scores."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ecodatum.evaluate.tasks import load_tasks
from ecodatum.operators.clip_models import load, register
from ecodatum.pool.pool import Pool, open_pool
from ecodatum.pool.shards import Sample, read_shard
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import to_hex
from ecodatum.train.scales import load_scale

NANO = Path(__file__).resolve().parents[2] / "experiments" / "nano"
COLUMNS = [
    "uid",
    "url",
    "text",
    "original_width",
    "original_height",
    "clip_b32_similarity_score",
    "clip_l14_similarity_score",
    "face_bboxes",
    "sha256",
]
#: As in the README.
SHARES = {
    "clean": 0.36,
    "swapped": 0.23,
    "file name": 0.08,
    "boilerplate": 0.07,
    "other language": 0.08,
    "blurred": 0.035,
    "dark": 0.025,
    "washed out": 0.025,
    "low information": 0.03,
    "extreme aspect": 0.04,
    "near duplicate": 0.025,
}
POOL_VENDORS = {"noto", "noto-v1", "fxemoji", "twemoji", "emojione", "streamline-emojis"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    for name in ("pool", "evalsets"):
        with tarfile.open(NANO / f"{name}.tar.xz") as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def pool(unpacked: Path) -> Pool:
    return open_pool(unpacked / "pool")


@pytest.fixture(scope="module")
def metadata(pool: Pool) -> pd.DataFrame:
    parts = [pq.read_table(part.metadata).to_pandas() for part in pool.parts]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return table


@pytest.fixture(scope="module")
def samples(pool: Pool) -> dict[str, Sample]:
    shards = [shard for part in pool.parts for shard in part.shards]
    found = [sample for shard in shards for sample in read_shard(shard.path)]
    return {json.loads(sample.members["json"])["uid"]: sample for sample in found}


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(NANO / "truth.parquet").to_pandas()
    return table


def test_all_files_together_are_at_most_25_megabytes() -> None:
    files = [path for path in NANO.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert (NANO / "scorer.pt").stat().st_size <= 3_000_000


def test_the_pool_has_four_parts_with_every_column_and_their_embeddings(pool: Pool) -> None:
    assert len(pool.parts) == 4
    assert pool.rows == 12_800
    for part in pool.parts:
        assert len(part.name) == 32
        assert pq.read_schema(part.metadata).names == COLUMNS
        with np.load(part.embeddings) as arrays:
            assert sorted(arrays) == ["b32_img", "b32_txt", "l14_img", "l14_txt"]
            for values in arrays.values():
                assert values.dtype == np.float16
                assert values.shape == (part.rows, 64)
                np.testing.assert_allclose(np.linalg.norm(values.astype(np.float32), axis=1), 1, atol=2e-3)


def test_uids_are_unique_and_some_begin_with_zero(metadata: pd.DataFrame) -> None:
    assert metadata.uid.is_unique
    assert metadata.uid.str.fullmatch("[0-9a-f]{32}").all()
    assert metadata.uid.str.startswith("0").any()


def test_each_part_starts_a_shard_and_its_shards_hold_its_rows(pool: Pool) -> None:
    for part in pool.parts:
        expected = pq.read_table(part.metadata, columns=["uid"])["uid"].to_pylist()
        tables = [pq.read_table(shard.path.with_suffix(".parquet")) for shard in part.shards]
        assert [uid for table in tables for uid in table["uid"].to_pylist()] == expected
        for shard, table in zip(part.shards, tables, strict=True):
            keys = [key for key, status in zip(table["key"], table["status"], strict=True)
                    if status.as_py() == "success"]  # fmt: skip
            assert [sample.key for sample in read_shard(shard.path)] == [key.as_py() for key in keys]
            assert all(key.as_py().startswith(shard.path.stem) for key in keys)


def test_a_sample_has_image_json_and_text_that_agree_with_the_metadata(
    metadata: pd.DataFrame, samples: dict[str, Sample]
) -> None:
    present = metadata[metadata.uid.isin(samples)].set_index("uid")
    assert len(present) == len(samples)
    for uid, text, sha256, width, height in zip(
        present.index,
        present.text,
        present.sha256,
        present.original_width,
        present.original_height,
        strict=True,
    ):
        members = samples[uid].members
        record = json.loads(members["json"])
        assert list(members) == ["webp", "json", "txt"]
        assert members["txt"].decode() == text == record["caption"]
        assert hashlib.sha256(members["webp"]).hexdigest() == sha256 == record["sha256"]
        assert (record["original_width"], record["original_height"]) == (width, height)


def test_original_sizes_have_the_shape_of_the_image(
    metadata: pd.DataFrame, samples: dict[str, Sample]
) -> None:
    rows = metadata[metadata.uid.isin(samples)].head(400)
    for uid, width, height in zip(rows.uid, rows.original_width, rows.original_height, strict=True):
        image = Image.open(io.BytesIO(samples[uid].members["webp"]))
        assert abs(image.width / image.height - width / height) < 0.05 * width / height


def test_the_truth_names_every_row_once_in_the_order_of_the_pool(
    metadata: pd.DataFrame, truth: pd.DataFrame
) -> None:
    assert list(truth.uid) == list(metadata.uid)


def test_the_oracle_keeps_all_good_rows_and_no_other(truth: pd.DataFrame) -> None:
    kept = set(to_hex(read_subset(NANO / "oracle.npy")).to_pylist())
    assert kept == set(truth.uid[truth.clean])


def test_kinds_have_the_shares_that_are_stated(truth: pd.DataFrame) -> None:
    shares = truth.kind.value_counts(normalize=True)
    assert set(shares.index) == set(SHARES)
    for kind, share in SHARES.items():
        assert shares[kind] == pytest.approx(share, abs=1e-4)
    assert 0.3 <= truth.clean.mean() <= 0.4


def test_the_two_percent_without_image_are_not_in_the_shards(
    truth: pd.DataFrame, samples: dict[str, Sample]
) -> None:
    assert truth.missing.mean() == pytest.approx(0.02, abs=1e-4)
    assert set(truth.uid[~truth.missing]) == set(samples)


def test_near_duplicates_name_a_row_of_the_same_concept_and_vendor(truth: pd.DataFrame) -> None:
    copies = truth[truth.kind == "near duplicate"]
    originals = truth.set_index("uid").loc[copies.dup_of]
    assert list(originals.concept) == list(copies.concept)
    assert list(originals.vendor) == list(copies.vendor)
    assert truth.dup_of.notna().sum() == len(copies)


def test_the_pool_holds_no_vendor_of_the_scorer_or_the_evaluation(truth: pd.DataFrame) -> None:
    assert set(truth.vendor) == POOL_VENDORS


def test_no_image_of_the_pool_is_in_the_evaluation_sets(unpacked: Path, samples: dict[str, Sample]) -> None:
    pool_images = {hashlib.sha256(sample.members["webp"]).digest() for sample in samples.values()}
    tested = [
        sample.members["webp"]
        for shard in sorted((unpacked / "evalsets").glob("wds_*/test/*.tar"))
        for sample in read_shard(shard)
    ]
    assert len(tested) > 4000
    assert pool_images.isdisjoint(hashlib.sha256(image).digest() for image in tested)


def test_every_task_has_its_data_and_every_folder_its_task(unpacked: Path) -> None:
    tasks = load_tasks(str(NANO / "tasks.yaml"))
    folders = {path.name for path in (unpacked / "evalsets").glob("wds_*")}
    folders |= {f"nano/{path.name}" for path in (unpacked / "evalsets" / "nano").iterdir()}
    assert {task.data for task in tasks} == folders
    assert {task.group for task in tasks} == {"imagenet", "shifts", "vtab", "retrieval", "other"}


def test_the_main_metrics_are_all_those_of_datacomp() -> None:
    ours = {task.main_metric for task in load_tasks(str(NANO / "tasks.yaml"))}
    theirs = {task.main_metric for task in load_tasks("datacomp")} - {None}
    assert ours == theirs


def test_the_scale_names_the_model_that_is_there() -> None:
    scale = load_scale(str(NANO / "scale.yaml"))
    assert scale.name == "nano"
    assert not scale.comparable
    assert (NANO / scale.model).is_file()


def test_the_scorer_gives_the_similarities_of_the_metadata(
    metadata: pd.DataFrame, samples: dict[str, Sample]
) -> None:
    name = register(str(NANO / "nano-clip.json"))
    network, transform, tokenizer = load(name, NANO / "scorer.pt", device="cpu")
    rows = metadata[metadata.uid.isin(samples)].head(64)
    images = [Image.open(io.BytesIO(samples[uid].members["webp"])).convert("RGB") for uid in rows.uid]
    with torch.inference_mode():
        image = network.encode_image(torch.stack([transform(one) for one in images]), normalize=True)
        text = network.encode_text(tokenizer(rows.text.tolist()), normalize=True)
    assert isinstance(network, open_clip.CLIP)
    similarity = (image * text).sum(1).numpy()
    np.testing.assert_allclose(similarity, rows.clip_l14_similarity_score, atol=1e-4)
    np.testing.assert_allclose(similarity, rows.clip_b32_similarity_score, atol=1e-4)


def test_the_scorer_tells_good_pairs_from_the_rest(metadata: pd.DataFrame, truth: pd.DataFrame) -> None:
    score, clean = metadata.clip_l14_similarity_score.to_numpy(), truth.clean.to_numpy()
    best = np.argsort(-score)[: round(0.3 * len(score))]
    assert clean[best].mean() > 0.6
