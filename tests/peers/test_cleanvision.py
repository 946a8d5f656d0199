"""Image quality equals CleanVision's on the same files, and what EcoDatum released for its demo."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ecodatum.operators.image_quality import ImageQuality, odd_size_scores
from ecodatum.operators.operator import Parameters

pytest.importorskip("cleanvision", reason="CleanVision is not installed")

ISSUES = ("blurry", "dark", "light", "low_information", "odd_aspect_ratio", "grayscale", "odd_size")
SIZES = [(1, 1), (64, 64), (65, 64), (300, 200), (200, 300), (1, 90), (500, 3), (512, 384), (1300, 900)]


def save_images(folder: Path) -> None:
    """Noise, gradients and flat images of many sizes and modes, in several formats."""
    chance = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        coarse = chance.integers(0, 256, (height // 20 + 2, width // 20 + 2, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
        smooth.save(folder / f"smooth{number}.jpg", quality=80)
        noise.save(folder / f"noise{number}.png")
        smooth.convert("L").save(folder / f"grey{number}.jpg")
        noise.convert("P").save(folder / f"palette{number}.png")
        smooth.convert("RGBA").save(folder / f"alpha{number}.webp", lossless=True)
        noise.convert("CMYK").save(folder / f"cmyk{number}.jpg")
        smooth.convert("1").save(folder / f"bits{number}.png")
        Image.new("RGB", (width, height), (number * 28,) * 3).save(folder / f"flat{number}.png")


def cleanvision_scores(folder: Path) -> pd.DataFrame:
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder))
    lab.find_issues({issue: {} for issue in ISSUES}, n_jobs=1, verbose=False)
    scores: pd.DataFrame = lab.issues[[f"{issue}_score" for issue in ISSUES]]
    return scores.rename(columns=lambda name: name.removesuffix("_score"))


def our_scores(paths: list[str]) -> pd.DataFrame:
    operator = ImageQuality(Parameters())
    views = []
    for path in paths:
        with Image.open(path) as image:
            image.load()
            views.append(operator.view(image))
    scores = pd.DataFrame(views, index=paths)
    quartiles = np.percentile(scores["size"], [25, 75])
    scores["odd_size"] = odd_size_scores(scores["size"].to_numpy(), (quartiles[0], quartiles[1]))
    return scores


def assert_equal(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    for issue in theirs.columns:
        np.testing.assert_allclose(ours[issue], theirs[issue].astype(float), rtol=0, atol=1e-6, err_msg=issue)


def test_scores_equal_cleanvisions_on_images_of_every_kind(tmp_path: Path) -> None:
    save_images(tmp_path)
    theirs = cleanvision_scores(tmp_path)
    assert len(theirs) == 8 * len(SIZES)
    assert_equal(our_scores(list(theirs.index)), theirs)


def test_odd_size_equals_cleanvisions_where_all_images_are_of_one_size(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGB", (30, 20), (number * 50, 0, 0)).save(tmp_path / f"{number}.png")
    theirs = cleanvision_scores(tmp_path)
    assert_equal(our_scores(list(theirs.index)), theirs)


@pytest.fixture
def demo() -> Path:
    home = Path(os.environ.get("ECODATUM_HOME", ""))
    if not (home / "examples" / "imgs").is_dir():
        pytest.skip("no checkout of the released EcoDatum (set ECODATUM_HOME)")
    return home


def test_scores_equal_cleanvisions_on_the_demos_photographs(demo: Path) -> None:
    theirs = cleanvision_scores(demo / "examples" / "imgs")
    assert_equal(our_scores(list(theirs.index)), theirs)


def test_scores_equal_those_that_the_demo_was_released_with(demo: Path, reference: Path) -> None:
    folder = reference / "ecodatum_demo"
    samples = read_lines(folder / "demo_input.jsonl")
    released = [row["__dj__stats__"] for row in read_lines(folder / "demo_ops_results.jsonl")]
    paths = [demo / sample["images"][0] for sample in samples]
    there = [row for row, path in enumerate(paths) if path.is_file()]
    assert len(there) == 27  # the demo misspells the names of three of its images
    ours = our_scores([str(paths[row]) for row in there])
    for issue in ISSUES[:5]:
        wanted = [released[row][f"{issue}_score"][0] for row in there]
        np.testing.assert_allclose(ours[issue], wanted, rtol=0, atol=1e-6, err_msg=issue)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
