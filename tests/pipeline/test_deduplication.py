"""Deduplication end to end: `curate` on small pools with planted duplicates."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from ecodatum.cli.curation import curate_pool
from ecodatum.curate.recipe import load_recipe
from ecodatum.errors import RunError
from ecodatum.operators.centroid import CentroidParameters
from ecodatum.pipeline.curation import Curation
from ecodatum.pipeline.experiment import Filter
from ecodatum.pool.pool import open_pool
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import from_hex
from tests.conftest import MakePool
from tests.operators.tiny_samples import encoded, picture

QUALITY = "metadata.clip_l14_similarity_score"
IMAGES = {"name": "images", "hash": "perceptual_hash.phash", "within": 4, "keep_best": QUALITY}
CAPTIONS = {"name": "captions", "hash": "caption_hash.exact", "keep_best": QUALITY}


def write_recipe(folder: Path, steps: Sequence[Mapping[str, Any]], **changes: Any) -> str:
    operators: dict[str, Any] = {"metadata": {}, "perceptual_hash": {}, "caption_hash": {}}
    recipe: dict[str, Any] = {
        "name": "mine",
        "title": "Mine",
        "source": "a test",
        "operators": operators,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**recipe, "deduplicate": [dict(step) for step in steps]}))
    return str(path)


def kept(pool: Path, recipe: str, work: Path, jobs: int = 0) -> list[int]:
    """Curate, and return which rows of the pool stay, counted over all parts."""
    out = work / "out.npy"
    curate_pool(recipe, pool, out, work=work, jobs=jobs, device="cpu", overrides={})
    stay = read_subset(out).tolist()
    columns = [pq.read_table(file).column("uid") for file in sorted((pool / "metadata").glob("*.parquet"))]
    rows = np.concatenate([from_hex(column) for column in columns])
    return [row for row, uid in enumerate(rows.tolist()) if uid in stay]


def counts(work: Path) -> dict[str, Any]:
    """Return the counts in the manifest of the only deduplication."""
    (manifest,) = (work / "deduplicated").glob("*.manifest.json")
    found: dict[str, Any] = json.loads(manifest.read_text())["counts"]
    return found


def jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def distinct(rows: int) -> dict[int, dict[str, Any]]:
    """Changes to a made pool that give every row a picture of its own."""
    return {row: {"image": encoded(picture(120, 90, seed=row))} for row in range(rows)}


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    """Three parts of eight; rows 2, 9, 10 and 17 are copies of row 2, and row 20 of row 5."""
    original, other = picture(120, 90, seed=2), picture(120, 90, seed=5)
    changes = distinct(24)
    changes[9] = {"image": jpeg(original, 40)}
    changes[10] = {"image": encoded(original.resize((77, 58)), "PNG")}
    changes[17] = {"image": encoded(original.crop((1, 1, 119, 89)), "WEBP")}
    changes[20] = {"image": jpeg(other, 70)}
    for row, score in {2: 0.2, 9: 0.1, 10: 0.4, 17: 0.3, 5: 0.3, 20: 0.3}.items():
        changes[row]["clip_l14_similarity_score"] = score
    return make_pool(rows=8, parts=3, changes=changes)


def test_of_the_copies_of_an_image_the_best_stays(pool: Path, tmp_path: Path) -> None:
    stay = kept(pool, write_recipe(tmp_path / "r", [IMAGES]), tmp_path / "work")
    tie = 20 if uid_of(pool, 20) < uid_of(pool, 5) else 5  # the same score: the lower uid
    assert stay == sorted({*range(24)} - {2, 9, 17, 5, 20} | {tie})
    assert counts(tmp_path / "work") == {
        "rows": 24,
        "survivors": 20,
        "steps": [{"step": "images", "candidates": 24, "groups": 2, "removed": 4}],
    }


def uid_of(pool: Path, row: int) -> str:
    files = sorted((pool / "metadata").glob("*.parquet"))
    return str(pq.read_table(files[row // 8]).column("uid")[row % 8])


def test_the_same_bytes_for_any_number_of_jobs(pool: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r", [IMAGES, CAPTIONS])
    found = []
    for jobs in (0, 2):
        work = tmp_path / f"work{jobs}"
        kept(pool, recipe, work, jobs)
        files = sorted(path for path in work.glob("deduplicated/*/*"))
        assert len(files) == 3
        found.append([(work / "out.npy").read_bytes(), *(path.read_bytes() for path in files)])
    assert found[0] == found[1]


def test_chance_keeps_one_of_each_group_and_the_seed_decides_which(pool: Path, tmp_path: Path) -> None:
    results = set()
    for seed in range(8):
        step = {**IMAGES, "keep_best": "random", "seed": seed}
        stay = kept(pool, write_recipe(tmp_path / "r", [step]), tmp_path / f"work{seed}")
        assert len({2, 9, 10, 17} & set(stay)) == len({5, 20} & set(stay)) == 1 and len(stay) == 20
        results.add(tuple(stay))
    assert len(results) > 2
    assert stay == kept(pool, write_recipe(tmp_path / "r", [step]), tmp_path / "again")


def test_missing_and_damaged_images_are_nobodys_duplicates(make_pool: MakePool, tmp_path: Path) -> None:
    changes = {**distinct(8), 1: {"image": None}, 2: {"image": None}, 5: {"image": b"no image"}}
    pool = make_pool(rows=4, parts=2, changes=changes)
    stay = kept(pool, write_recipe(tmp_path / "r", [IMAGES]), tmp_path / "work")
    assert stay == list(range(8))


def test_a_pool_of_one_image_keeps_the_best(make_pool: MakePool, tmp_path: Path) -> None:
    black = encoded(Image.new("RGB", (40, 40)), "PNG")
    scores = [None, float("nan"), 0.1, 0.4, 0.4, 0.2]
    changes = {row: {"image": black, "clip_l14_similarity_score": score} for row, score in enumerate(scores)}
    pool = make_pool(rows=3, parts=2, changes=changes)
    stay = kept(pool, write_recipe(tmp_path / "r", [IMAGES]), tmp_path / "work")
    assert len(stay) == 1 and stay[0] in (3, 4)


def test_without_any_quality_the_lowest_uid_stays(make_pool: MakePool, tmp_path: Path) -> None:
    black = encoded(Image.new("RGB", (40, 40)), "PNG")
    uids = [f"{number:032x}" for number in (7, 3, 9, 5)]
    nan = float("nan")
    changes = {
        row: {"image": black, "uid": uid, "clip_l14_similarity_score": nan} for row, uid in enumerate(uids)
    }
    pool = make_pool(rows=2, parts=2, changes=changes)
    assert kept(pool, write_recipe(tmp_path / "r", [IMAGES]), tmp_path / "work") == [1]


def test_of_a_sample_that_is_twice_in_the_pool_one_row_stays(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        rows=3, parts=2, changes={4: {"uid": f"{1:032x}", "text": "a photo"}, 0: {"text": "a photo"}}
    )
    kept(pool, write_recipe(tmp_path / "r", [CAPTIONS]), tmp_path / "work")
    assert counts(tmp_path / "work")["survivors"] == len(read_subset(tmp_path / "work" / "out.npy")) == 5


def test_captions_that_differ_in_case_and_space_are_the_same(make_pool: MakePool, tmp_path: Path) -> None:
    texts = ["A red dog", "a  RED\u00a0dog ", "a red dot", "", " ", None, None, "ａ red dog"]
    changes = {row: {"text": text, "clip_l14_similarity_score": 0.01 * row} for row, text in enumerate(texts)}
    pool = make_pool(rows=4, parts=2, changes=changes)
    stay = kept(pool, write_recipe(tmp_path / "r", [CAPTIONS]), tmp_path / "work")
    assert stay == [2, 4, 5, 6, 7]


def test_near_captions_by_simhash(make_pool: MakePool, tmp_path: Path) -> None:
    text = "a photo of a red dog that plays with a ball in the garden of our house in summer"
    texts = {0: text, 5: f"{text}.", 2: f"{text} in 2019, by the sea and lake"}
    changes = {
        row: {"text": text, "clip_l14_similarity_score": 0.1 + row / 100} for row, text in texts.items()
    }
    pool = make_pool(rows=4, parts=2, changes=changes)
    step = {**CAPTIONS, "hash": "caption_hash.simhash", "within": 4}
    stay = kept(pool, write_recipe(tmp_path / "r", [step]), tmp_path / "work")
    assert 0 not in stay and {2, 5} <= set(stay)


def test_rules_and_labelling_functions_see_only_what_is_left(pool: Path, tmp_path: Path) -> None:
    rule = {"score": QUALITY, "at_least": 0.25}
    plain = kept(pool, write_recipe(tmp_path / "a", [], rules=[rule]), tmp_path / "plain")
    both = kept(pool, write_recipe(tmp_path / "b", [IMAGES], rules=[rule]), tmp_path / "both")
    assert set(both) < set(plain) and not {2, 9, 17} & set(both)

    ensemble = ensemble_recipe(tmp_path / "c", 0.25)
    stay = kept(pool, ensemble, tmp_path / "ensemble")
    assert len(stay) == 10 and not {2, 9, 17} & set(stay)  # half of 20


def ensemble_recipe(folder: Path, boundary: float) -> str:
    functions = [
        {"name": f"f{i}", "score": QUALITY, "boundary": boundary + i / 100, "margin": 0.01} for i in range(3)
    ]
    settings = {"epochs": 5}
    keep = {"top": 0.5, "tie_break": QUALITY}
    return write_recipe(folder, [IMAGES], labelling_functions=functions, label_model=settings, keep=keep)


def test_another_labelling_function_does_not_deduplicate_again(pool: Path, tmp_path: Path) -> None:
    curations = []
    for number, boundary in enumerate((0.25, 0.3)):
        curation = Curation(open_pool(pool), tmp_path / "work", tmp_path / "logs", "cpu")
        recipe = load_recipe(ensemble_recipe(tmp_path / str(number), boundary))
        curation.plan([Filter(name="mine", title="Mine", recipe=recipe)])
        curations.append(curation)
    first, second = curations
    assert first.deduplications == second.deduplications
    assert first.subsets["mine"].fingerprint != second.subsets["mine"].fingerprint


def test_filters_with_the_same_steps_share_them(pool: Path, tmp_path: Path) -> None:
    rule = {"score": QUALITY, "at_least": 0.25}
    names: dict[str, list[Any]] = {"a": [], "b": [rule]}
    filters = [
        Filter(
            name=name, title=name, recipe=load_recipe(write_recipe(tmp_path / name, [IMAGES], rules=rules))
        )
        for name, rules in names.items()
    ]
    curation = Curation(open_pool(pool), tmp_path / "work", tmp_path / "logs", "cpu")
    curation.plan(filters)
    assert len([unit for unit in curation.units if unit.stage == "deduplicate"]) == 1
    assert curation.deduplications["a"] == curation.deduplications["b"]


def test_another_operator_of_the_steps_deduplicates_again(pool: Path, tmp_path: Path) -> None:
    marks = set()
    for within in (0, 4):
        curation = Curation(open_pool(pool), tmp_path / "work", tmp_path / "logs", "cpu")
        recipe = load_recipe(write_recipe(tmp_path / "r", [{**IMAGES, "within": within}]))
        curation.plan([Filter(name="mine", title="Mine", recipe=recipe)])
        marks.add(curation.deduplications["mine"].fingerprint)
    assert len(marks) == 2


def test_a_score_that_is_no_hash_is_named(pool: Path, tmp_path: Path) -> None:
    step = {**IMAGES, "hash": QUALITY}
    with pytest.raises(RunError, match=r"clip_l14_similarity_score: .* neither a hash nor a cluster"):
        kept(pool, write_recipe(tmp_path / "r", [step]), tmp_path / "work")


def test_damaged_survivors_are_named(pool: Path, tmp_path: Path) -> None:
    recipe, work = write_recipe(tmp_path / "r", [IMAGES]), tmp_path / "work"
    kept(pool, recipe, work)
    file = next(work.glob("deduplicated/*/*.parquet"))
    file.write_bytes(file.read_bytes()[:40])
    for path in work.glob("filters/mine/subset@*"):
        path.unlink()
    with pytest.raises(RunError, match="damaged survivors"):
        kept(pool, recipe, work)


def with_embeddings(pool: Path, clusters: int, width: int = 16) -> tuple[npt.NDArray[np.float32], Path]:
    """Write embeddings around some centres, with near copies among them; return both and a file."""
    chance = np.random.default_rng(3)
    centres = unit(chance.normal(size=(clusters, width)))
    files = sorted((pool / "metadata").glob("*.parquet"))
    every: list[npt.NDArray[np.float32]] = []
    for file in files:
        rows = pq.read_metadata(file).num_rows
        near = unit(centres[chance.integers(0, clusters, rows)] + 0.25 * chance.normal(size=(rows, width)))
        near[:2] = unit(every[0][:2] + 0.001 if every else near[:2])
        near[3:4] = unit(near[2:3] + 0.01)
        values = near.astype(np.float16)
        np.savez(file.with_suffix(".npz"), l14_img=values)
        every.append(values.astype(np.float32))
    np.save(pool / "centres.npy", centres.astype(np.float32))
    return np.concatenate(every), pool / "centres.npy"


def unit(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scaled: npt.NDArray[Any] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def semantic_recipe(folder: Path, centres: Path, *steps: Mapping[str, Any]) -> str:
    operators: dict[str, Any] = {"metadata": {}, "centroid": {"centroids": str(centres)}}
    return write_recipe(folder, steps, operators=operators)


SEMANTIC = {
    "name": "semantic",
    "embeddings": "l14_img",
    "clusters": "centroid.cluster",
    "above": 0.95,
    "keep_best": "centroid.distance",
}
DENSITY = {
    "name": "density",
    "clusters": "centroid.cluster",
    "distance": "centroid.distance",
    "isolation": "centroid.isolation",
    "top": 0.5,
    "keep_best": "centroid.distance",
}


def test_semantic_duplicates_are_those_of_semdedup(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(rows=40, parts=3)
    vectors, centres = with_embeddings(pool, clusters=5)
    vectors = unit(vectors)
    similarity = vectors @ np.load(centres).T
    expected = []
    for cluster in range(5):
        members = np.flatnonzero(similarity.argmax(axis=1) == cluster)
        hard_first = members[np.argsort(similarity[members, cluster], kind="stable")]
        near = np.triu(vectors[hard_first] @ vectors[hard_first].T, 1) > 0.95
        expected += hard_first[~near.any(axis=0)].tolist()
    stay = kept(pool, semantic_recipe(tmp_path / "r", centres, SEMANTIC), tmp_path / "work")
    assert stay == sorted(expected) and 5 <= len(stay) < 118
    assert not list((tmp_path / "work").rglob("*.embeddings"))


def test_embeddings_without_a_direction_have_no_duplicates(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(rows=10, parts=1)
    _, centres = with_embeddings(pool, clusters=1)
    (file,) = (pool / "metadata").glob("*.npz")
    values = np.repeat(np.load(file)["l14_img"][:1], 10, axis=0)
    values[3], values[7] = np.nan, 0
    np.savez(file, l14_img=values)
    stay = kept(pool, semantic_recipe(tmp_path / "r", centres, SEMANTIC), tmp_path / "work")
    assert len(stay) == 3 and {3, 7} <= set(stay)


def test_density_pruning_keeps_the_share_and_the_farthest(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(rows=40, parts=3)
    vectors, centres = with_embeddings(pool, clusters=4)
    stay = kept(pool, semantic_recipe(tmp_path / "r", centres, DENSITY), tmp_path / "work")
    assert len(stay) == 60
    similarity = unit(vectors) @ np.load(centres).T
    for cluster in range(4):
        members = np.flatnonzero(similarity.argmax(axis=1) == cluster)
        left = np.isin(members, stay)
        assert similarity[members[left], cluster].max() <= similarity[members[~left], cluster].min()


def test_steps_follow_one_another(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(rows=40, parts=3)
    _, centres = with_embeddings(pool, clusters=4)
    best = {"name": "clip", "top": 0.75, "keep_best": QUALITY}
    stay = kept(pool, semantic_recipe(tmp_path / "r", centres, SEMANTIC, best, DENSITY), tmp_path / "work")
    first, second, third = counts(tmp_path / "work")["steps"]
    left = 120 - first["removed"]
    assert second == {"step": "clip", "candidates": left, "groups": 0, "removed": left - int(0.75 * left)}
    assert third["candidates"] == int(0.75 * left) and third["groups"] == 4
    assert len(stay) == int(0.5 * third["candidates"])


def test_a_pool_without_embeddings_is_refused(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(rows=4, parts=1)
    centres = tmp_path / "centres.npy"
    np.save(centres, np.eye(4, dtype=np.float32))
    assert CentroidParameters().embeddings == "l14_img"
    with pytest.raises(Exception, match="the part has no embeddings"):
        kept(pool, semantic_recipe(tmp_path / "r", centres, SEMANTIC), tmp_path / "work")
