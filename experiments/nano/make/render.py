"""Pictures: rasterises icons, puts them on backgrounds, and encodes the result."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFilter
from sources import Concept, Vendor, svg

#: Longer side of every image that is written, in pixels; the models read 48.
SIDE: Final = 64
_RASTER: Final = 128

Colour = tuple[int, int, int]
_WHITE: Final[Colour] = (255, 255, 255)
_COLOURS: Final[tuple[Colour, ...]] = (
    (214, 66, 60),
    (62, 124, 196),
    (84, 160, 92),
    (240, 200, 80),
    (150, 96, 176),
    (236, 150, 70),
    (120, 190, 200),
    (230, 160, 180),
    (120, 120, 128),
    (70, 76, 92),
    (190, 170, 140),
)


@dataclass(frozen=True)
class Scene:
    """How an icon is placed: canvas size, share of the shorter side it fills, degrees, background."""

    width: int
    height: int
    fill: float
    angle: float
    background: Image.Image


def rasterise(cache_folder: Path, vendor: Vendor, concept: Concept) -> Image.Image:
    """The concept's icon as RGBA, cropped to what is drawn.

    Raises LookupError when the vendor lacks the concept.
    """
    icon = concept.icon(vendor.name)
    if icon is None:
        raise LookupError(f"{vendor.name} has no icon for {concept.name}")
    return _rasterise(svg(cache_folder, vendor, icon))


@cache
def _rasterise(document: str) -> Image.Image:
    png = bytes(resvg_py.svg_to_bytes(svg_string=document, width=_RASTER, skip_system_fonts=True))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())


def web_scene(rng: np.random.Generator, aspect: float | None = None) -> Scene:
    """A scene as found on the web: mostly plain backgrounds, the object somewhat off centre and turned.

    `aspect` is width over height; left out, it lies between 3:4 and 4:3.
    """
    ratio = float(np.exp(rng.uniform(-0.28, 0.28))) if aspect is None else aspect
    width, height = (SIDE, round(SIDE / ratio)) if ratio >= 1 else (round(SIDE * ratio), SIDE)
    return Scene(
        width,
        height,
        fill=float(rng.uniform(0.55, 0.95)),
        angle=float(rng.normal(0, 6)),
        background=_background(rng, width, height),
    )


def photograph(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The icon as a web page shows it: in some scene, with a little grain, one in twelve without colour."""
    image = compose(icon, web_scene(rng), rng)
    if rng.random() < 1 / 12:
        image = without_colour(image)
    return grain(image, rng, float(rng.uniform(0.5, 2.5)))


def plain_scene(rng: np.random.Generator) -> Scene:
    """A square scene on white or a light colour, the object upright: what the evaluation sets use."""
    base = np.clip(np.array(_WHITE) - rng.uniform(0, 40, 3), 0, 255)
    return Scene(SIDE, SIDE, float(rng.uniform(0.72, 0.95)), float(rng.normal(0, 4)), _flat(base, SIDE, SIDE))


def textured_scene(rng: np.random.Generator) -> Scene:
    """A square scene on a strongly coloured, blotchy background."""
    return Scene(
        SIDE, SIDE, float(rng.uniform(0.68, 0.9)), float(rng.normal(0, 12)), _texture(rng, SIDE, SIDE, 0.8)
    )


def compose(icon: Image.Image, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Paste the icon into the scene, at a random place near the middle; returns RGB."""
    turned = icon.rotate(scene.angle, Image.Resampling.BICUBIC, expand=True)
    room = scene.fill * min(scene.width, scene.height)
    scale = room / max(turned.size)
    size = (max(1, round(turned.width * scale)), max(1, round(turned.height * scale)))
    small = turned.resize(size, Image.Resampling.LANCZOS)
    canvas = scene.background.copy()
    spare = (scene.width - size[0], scene.height - size[1])
    place = (round(spare[0] * rng.uniform(0.2, 0.8)), round(spare[1] * rng.uniform(0.2, 0.8)))
    canvas.paste(small, place, small)
    return canvas


def grain(image: Image.Image, rng: np.random.Generator, amount: float) -> Image.Image:
    """Add sensor-like noise with a standard deviation of `amount` grey levels."""
    noisy = np.asarray(image, np.float32) + rng.normal(0, amount, (image.height, image.width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def without_colour(image: Image.Image) -> Image.Image:
    """The image in grey, as RGB."""
    return image.convert("L").convert("RGB")


def encode(image: Image.Image, quality: int = 70) -> bytes:
    """The image as WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def sketch(image: Image.Image) -> Image.Image:
    """A pencil drawing: dark lines where the image has edges, over a pale wash of its colours."""
    grey = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(0.6)), np.float32)
    down, right = np.gradient(grey)
    lines = 255 - np.clip(np.hypot(down, right) * 3, 0, 200)[..., None]
    wash = 0.6 * np.asarray(image, np.float32) + 0.4 * 255
    return Image.fromarray(np.minimum(lines, wash).astype(np.uint8))


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    style = rng.random()
    colour = np.array(_COLOURS[rng.integers(len(_COLOURS))])
    if style < 0.4:
        return _flat(np.array(_WHITE) - rng.uniform(0, 16), width, height)
    if style < 0.6:
        return _flat(colour * 0.4 + 255 * 0.6, width, height)
    if style < 0.75:
        return _gradient(colour, rng, width, height)
    return _texture(rng, width, height, float(rng.uniform(0.3, 0.8)))


def _flat(colour: np.ndarray, width: int, height: int) -> Image.Image:
    red, green, blue = (int(value) for value in colour)
    return Image.new("RGB", (width, height), (red, green, blue))


def _gradient(colour: np.ndarray, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    share = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
    if rng.random() < 0.5:
        share = share[::-1]
    shades = colour * share + np.array(_WHITE) * (1 - share)
    return Image.fromarray((0.7 * shades + 0.3 * 255).astype(np.uint8))


def _texture(rng: np.random.Generator, width: int, height: int, strength: float) -> Image.Image:
    """Blurred blobs of a few colours; `strength` 0 is white."""
    image = Image.new("RGB", (width, height), _COLOURS[rng.integers(len(_COLOURS))])
    draw = ImageDraw.Draw(image)
    for _ in range(10):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(5, 18)
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=_COLOURS[rng.integers(len(_COLOURS))])
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(3)), np.float32)
    return Image.fromarray((strength * blurred + (1 - strength) * 255).astype(np.uint8))
