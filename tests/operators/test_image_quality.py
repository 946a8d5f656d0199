import io
import math
import random

import numpy as np
import pytest
from PIL import Image

from ecodatum.operators.image_quality import ImageQuality, odd_size_scores
from ecodatum.operators.images import decode
from ecodatum.operators.operator import ImageBatch, Parameters
from tests.operators.tiny_samples import encoded, picture

OPERATOR = ImageQuality(Parameters())


def test_a_flat_grey_image_by_hand() -> None:
    quality = OPERATOR.view(Image.new("L", (100, 25), 51))
    assert quality.dark == 51 / 255
    assert quality.light == 1 - 51 / 255
    assert quality.low_information == 0
    assert quality.odd_aspect_ratio == 0.25
    assert quality.grayscale == 0
    assert quality.size == pytest.approx(50)


def test_brightness_weighs_the_colours() -> None:
    red = OPERATOR.view(Image.new("RGB", (10, 10), (255, 0, 0)))
    assert red.dark == pytest.approx(math.sqrt(0.241), abs=1e-12)
    assert red.grayscale == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (200, 170), (7, 5000), (700, 61)])
def test_brightness_percentiles_are_those_of_all_pixels(size: tuple[int, int]) -> None:
    check_percentiles(picture(*size, seed=3))


@pytest.mark.parametrize("seed", range(40))
def test_brightness_percentiles_hold_for_few_and_for_pure_colours(seed: int) -> None:
    chance = np.random.default_rng(seed)
    spread = int(chance.choice([1, 2, 5, 40, 256]))
    least = int(chance.integers(0, 257 - spread))
    colours = chance.integers(least, least + spread, (int(chance.integers(1, 400)), 3))
    colours[chance.random(colours.shape) < chance.choice([0, 0.5])] = chance.choice([0, 255])
    rows = chance.integers(0, len(colours), (31, 57))
    check_percentiles(Image.fromarray(colours[rows].astype(np.uint8)))


def check_percentiles(image: Image.Image) -> None:
    pixels = np.asarray(image).astype(float)
    brightness = np.sqrt(pixels**2 @ [0.241, 0.691, 0.068]) / 255
    quality = OPERATOR.view(image)
    assert quality.dark == pytest.approx(np.percentile(brightness, 99), abs=1e-12)
    assert quality.light == pytest.approx(1 - np.percentile(brightness, 5), abs=1e-12)


def test_sharpness_of_a_flat_image_by_hand() -> None:
    # One grey level of 256 holds all 64·64 pixels: a spread of √(64⁴/256 - 16²) = 255.5. The edge
    # filter copies the border (252 pixels) and gives 0 inside.
    share = 252 / 64**2
    edges = 100 * math.sqrt(share * (1 - share))
    blur, spread = 1 - math.exp(-0.01 * edges), 1 - math.exp(-0.01 * math.sqrt(64**4 / 256 - 16**2))
    assert OPERATOR.view(Image.new("RGB", (128, 128), (100,) * 3)).blurry == min(1, blur + spread)
    assert blur + spread > 1


def test_alpha_counts_for_nothing_in_brightness() -> None:
    image = picture()
    clear = image.copy()
    clear.putalpha(0)
    assert OPERATOR.view(clear).dark == OPERATOR.view(image).dark


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]
)
def test_every_mode_gives_scores_in_their_ranges(mode: str) -> None:
    wide = Image.fromarray(np.full((9, 9), 60000, np.uint16))
    check_ranges(wide if mode == "I;16" else picture().convert(mode))


def test_the_image_is_left_as_it_was() -> None:
    image = picture(200, 100)
    before = image.tobytes()
    OPERATOR.view(image)
    assert (image.size, image.tobytes()) == ((200, 100), before)


def check_ranges(image: Image.Image) -> None:
    scores = OPERATOR.score(ImageBatch([OPERATOR.view(image)], [None])).values.to_pylist()[0]
    for column in OPERATOR.columns:
        low, high = column.low, column.high if column.high is not None else math.inf
        assert low is not None
        assert low <= scores[column.name] <= high, column.name


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_image_files_neither_crash_nor_leave_the_ranges() -> None:
    chance = random.Random(0)
    files = [encoded(picture(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    seen = {"image": 0, "reason": 0}
    for turn in range(3000):
        data = bytearray(files[turn % len(files)])
        for _ in range(chance.choice((1, 1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = len(data) if chance.random() < 0.7 else chance.randrange(len(data))
        image = decode(bytes(data[:cut]))
        if isinstance(image, str):
            assert image.startswith("cannot decode: ")
            seen["reason"] += 1
        elif math.prod(image.size) < 1_000_000:
            check_ranges(image)
            seen["image"] += 1
    assert min(seen.values()) > 500


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_no_image() -> None:
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    assert "decompression bomb" in str(decode(file.getvalue()))


def test_an_animation_counts_as_its_first_frame() -> None:
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = decode(file.getvalue())
    assert isinstance(image, Image.Image)
    assert OPERATOR.view(image).dark == 0


def test_odd_sizes_by_hand() -> None:
    # Quartiles 100 and 200: usual is -200 to 500, the middle 150.
    scores = odd_size_scores(np.array([150.0, 500.0, 850.0, 2000.0]), (100, 200))
    assert scores.tolist() == [1, 0.5, 0, 0]


def test_where_all_sizes_are_the_same_any_other_is_odd() -> None:
    assert odd_size_scores(np.array([100.0, 150.0]), (100, 100)).tolist() == [1, 0.5]
