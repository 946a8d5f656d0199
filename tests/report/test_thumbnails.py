"""Small images: any format that a pool has, still ones, and a reason where there is none."""

import base64
import io

import pytest
from PIL import Image

from ecodatum.report.thumbnails import Thumbnail, thumbnail


def encoded(image: Image.Image, form: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def shown(data: bytes) -> Image.Image:
    small = thumbnail(data)
    assert isinstance(small, Thumbnail)
    head, _, body = small.uri.partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert image.size == (small.width, small.height)
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_a_small_webp(mode: str) -> None:
    image = shown(encoded(Image.new(mode, (640, 320)), "PNG"))
    assert image.format == "WEBP" and image.size == (160, 80)


def test_cmyk_and_tiff_are_shown_too() -> None:
    assert shown(encoded(Image.new("CMYK", (50, 400)), "TIFF")).size == (20, 160)


def test_small_images_are_not_blown_up_and_an_animation_stands_still() -> None:
    frames = [Image.new("RGB", (48, 36), colour) for colour in ("red", "blue")]
    image = shown(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert image.size == (48, 36) and getattr(image, "n_frames", 1) == 1
    red, _, blue = image.convert("RGB").getpixel((24, 18))  # type: ignore[misc]
    assert red > 200 and blue < 50


def test_what_is_transparent_stays_so() -> None:
    assert shown(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")).mode == "RGBA"


def test_a_long_strip_keeps_a_pixel() -> None:
    assert shown(encoded(Image.new("RGB", (4000, 3)), "PNG")).size == (160, 1)


@pytest.mark.parametrize("data", [None, b"", b"<svg/>", encoded(Image.new("RGB", (64, 64)), "PNG")[:60]])
def test_what_cannot_be_decoded_says_why(data: bytes | None) -> None:
    assert isinstance(thumbnail(data), str)


def test_a_small_file_that_claims_a_huge_image_is_none() -> None:
    bomb = encoded(Image.new("1", (16_000, 16_000)), "PNG")
    assert "cannot decode" in str(thumbnail(bomb))
