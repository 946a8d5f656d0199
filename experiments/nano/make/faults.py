"""Faulty images as the web has them: blurred, dark, washed out, empty, extreme in shape, or copied."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageFilter
from render import compose, encode, grain, web_scene

Fault = Callable[[Image.Image, np.random.Generator], Image.Image]


def blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus, or blown up from a tiny thumbnail."""
    if rng.random() < 0.5:
        return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(3.0, 5.0))))
    side = int(rng.integers(6, 10))
    thumbnail = image.resize((side, side), Image.Resampling.BOX)
    return thumbnail.resize(image.size, Image.Resampling.BICUBIC)


def dark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Under-exposed: little light, and the noise that comes with it."""
    light = np.asarray(image, np.float32) * rng.uniform(0.06, 0.2)
    return grain(Image.fromarray(light.astype(np.uint8)), rng, 3.0)


def washed_out(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Over-exposed: almost white, with traces of the object."""
    share = rng.uniform(0.04, 0.12)
    pale = 255 - (255 - np.asarray(image, np.float32)) * share
    return Image.fromarray(pale.astype(np.uint8))


def low_information(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Next to nothing to see: a placeholder, or a page background with a corner of the picture."""
    shade = int(rng.choice([255, 238, 221, 200]))
    blank = Image.new("RGB", image.size, (shade, shade, shade))
    if rng.random() < 0.5:
        side = int(rng.integers(6, 11))
        mark = image.resize((side, side), Image.Resampling.BOX)
        blank.paste(
            mark, (int(rng.integers(0, image.width - side)), int(rng.integers(0, image.height - side)))
        )
    return blank


def banner(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """An extreme aspect ratio, 3.2 to 6: a banner or a column that the object is squeezed or cut into."""
    ratio = float(rng.uniform(3.2, 6.0))
    wide = rng.random() < 0.6
    scene = web_scene(rng, ratio if wide else 1 / ratio)
    if rng.random() < 0.5:
        return compose(icon, scene, rng)
    square = compose(icon, web_scene(rng, 1.0), rng)
    return square.resize((scene.width, scene.height), Image.Resampling.BICUBIC)


def near_duplicate(data: bytes, rng: np.random.Generator) -> tuple[Image.Image, bytes, str]:
    """Copy an image file as sites do: re-encoded, resized or cropped. Returns image, file, and how."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    how = str(rng.choice(["re-encoded", "resized", "cropped"]))
    if how == "resized":
        scale = rng.uniform(0.6, 0.9)
        size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    elif how == "cropped":
        left, top, right, bottom = rng.uniform(0.0, 0.09, 4)
        image = image.crop(
            (
                round(image.width * left),
                round(image.height * top),
                round(image.width * (1 - right)),
                round(image.height * (1 - bottom)),
            )
        )
    return image, encode(image, int(rng.integers(35, 60))), how


#: Faults that change a finished picture, by the kind that the truth names.
IMAGE_FAULTS: Final[dict[str, Fault]] = {
    "blurred": blurred,
    "dark": dark,
    "washed out": washed_out,
    "low information": low_information,
}
