"""Perceptual hashes equal imagehash's, and copies of an image are near one another."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from ecodatum.operators.operator import ImageBatch, Parameters
from ecodatum.operators.perceptual_hash import PerceptualHash
from tests.operators.tiny_samples import picture


def phashes(images: list[Image.Image]) -> list[int]:
    operator = PerceptualHash(Parameters())
    views = [operator.view(image) for image in images]
    scores = operator.score(ImageBatch(views, [None] * len(images)))
    hashes: list[int] = scores.values.column("phash").to_pylist()
    return hashes


def by_imagehash(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def noise(seed: int, mode: str) -> Image.Image:
    chance = np.random.default_rng(seed)
    width, height = chance.integers(1, 90, 2)
    pixels = chance.integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA", "I", "F"])
def test_equal_to_imagehash_in_every_mode(mode: str) -> None:
    images = [noise(seed, mode) for seed in range(40)]
    assert phashes(images) == [by_imagehash(image) for image in images]


def test_equal_to_imagehash_on_pictures_and_plain_colours() -> None:
    images = [picture(200, 130, seed=seed) for seed in range(30)]
    images += [Image.new("RGB", (50, 40), (grey, grey, grey)) for grey in range(0, 256, 15)]
    assert phashes(images) == [by_imagehash(image) for image in images]


def test_a_resized_picture_is_near_and_another_is_far() -> None:
    image = picture(200, 130, seed=1)
    same, resized, other = phashes([image, image.resize((90, 60)), picture(200, 130, seed=2)])
    assert (same ^ resized).bit_count() <= 4 and (same ^ other).bit_count() > 12
