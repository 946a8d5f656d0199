"""Any caption and any bytes for an image: a score within its column's range, or null with a reason.

A share of the inputs is tried here; `ECODATUM_FUZZ=50000 pytest tests/operators/test_fuzz.py` tries as many,
and `ECODATUM_FUZZ_SEED` others. The operators are those that need no model of their own to be loaded on a
GPU; inputs go through a part's files, as a pool's do.
"""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecodatum.errors import AssetError
from ecodatum.operators.operator import Operator, create
from ecodatum.operators.score import errors_path, score
from tests.operators.tiny_samples import Row, make_part

COUNT = int(os.environ.get("ECODATUM_FUZZ", "1500"))
SEED = int(os.environ.get("ECODATUM_FUZZ_SEED", "0"))
CAPTION_OPERATORS = (
    "caption",
    "caption_hash",
    "gcld3_language",
    "language",
    "repetition",
    "tokens",
    "wordnet",
)
IMAGE_OPERATORS = ("image_quality", "perceptual_hash")


def operators(names: tuple[str, ...]) -> dict[str, Operator]:
    """Those of the operators that this machine has all for."""
    found = {}
    for name in names:
        try:
            found[name] = create(name, {})
        except AssetError:
            continue
    return found


def check(outputs: dict[str, Path], made: dict[str, Operator], rows: int) -> dict[str, int]:
    """Check every score against its column's range; return how many rows each operator could not score."""
    failed = {}
    for name, operator in made.items():
        scores, errors = pq.read_table(outputs[name]), pq.read_table(errors_path(outputs[name]))
        assert scores.num_rows == rows
        null = np.zeros(rows, bool)
        for column in operator.columns:
            values = scores.column(column.name)
            null |= values.is_null().to_numpy()
            if column.low is None or values.null_count == rows:
                continue
            if pa.types.is_floating(values.type):
                assert not pc.any(pc.is_nan(values)).as_py(), column.name
            least, most = pc.min_max(values).as_py().values()
            assert column.low <= least, column.name
            assert most < np.inf if column.high is None else most <= column.high, column.name
        assert None not in errors.column("reason").to_pylist()
        assert "" not in errors.column("reason").to_pylist()
        explained = {int(uid, 16) for uid in errors.column("uid").to_pylist()}
        assert explained == set(scores.column("uid_low").to_numpy()[null].tolist()), name
        failed[name] = int(null.sum())
    return failed


def test_numbers_of_every_operator_have_a_range() -> None:
    for operator in operators((*CAPTION_OPERATORS, *IMAGE_OPERATORS)).values():
        for column in operator.columns:
            text = pa.types.is_string(column.type) or pa.types.is_boolean(column.type)
            assert text or column.low is not None, f"{operator.name}.{column.name}"


def test_any_caption_is_scored_or_is_null_with_a_reason(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    raw = [caption(chance) for _ in range(COUNT)]
    buffers = pa.array(raw, pa.binary()).buffers()
    text = pa.Array.from_buffers(pa.string(), COUNT, buffers)  # what is no UTF-8 stays in it
    part = make_part(tmp_path, [Row(uid, "") for uid in range(COUNT)], text=text)
    made = operators(CAPTION_OPERATORS)
    outputs = {name: tmp_path / f"{name}.parquet" for name in made}
    score(part, made, outputs)
    missing = sum(1 for line in raw if line is None or not is_utf8(line))
    failed = check(outputs, made, COUNT)
    unsure = failed.pop("language") - missing
    assert 0 <= unsure <= COUNT // 1000
    assert set(failed.values()) == {missing}
    assert missing > COUNT // 50


def test_any_bytes_for_an_image_are_scored_or_null_with_a_reason(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    rows = [Row(uid, "", data) for uid, data in zip(range(COUNT), images(chance), strict=False)]
    part = make_part(tmp_path, rows)
    made = operators(IMAGE_OPERATORS)
    outputs = {name: tmp_path / f"{name}.parquet" for name in made}
    score(part, made, outputs)
    failed = check(outputs, made, COUNT)
    assert all(COUNT // 5 < count < COUNT * 4 // 5 for count in failed.values()), failed


@pytest.mark.parametrize("declared", [(65_000, 65_000), (10_000, 9_000)])
@pytest.mark.parametrize("make", ["png", "jpeg", "gif", "bmp", "webp"])
def test_an_image_that_claims_to_be_huge_is_null(
    tmp_path: Path, make: str, declared: tuple[int, int]
) -> None:
    data = claiming(make, *declared)
    made = operators(IMAGE_OPERATORS)
    outputs = {name: tmp_path / f"{name}.parquet" for name in made}
    score(make_part(tmp_path, [Row(0, "", data)]), made, outputs)
    assert set(check(outputs, made, 1).values()) == {1}


def is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# Captions

BLANKS = " \t\n\r\v\f\0\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2003\u2028\u2029\u200b\u202e\u3000\ufeff"
WORDS = [
    "the",
    "dog",
    "dogs",
    "</s>",
    "__label__en",
    "ΟΔΟΣ",
    "İstanbul",
    "ﬁ",
    "한국",
    "नमस्ते",
    "1e999",
    "😀",
    "e\u0301" * 9,
]


def caption(chance: random.Random) -> bytes | None:
    """Return a caption as it may lie in a crawl's parquet, or worse."""
    makers: list[Callable[[random.Random], bytes | None]] = [
        lambda _: None,
        lambda _: b"",
        lambda c: c.randbytes(c.randrange(40)),
        lambda c: characters(c, 0x110000).encode(),
        lambda c: characters(c, 0x3000).encode(),
        lambda c: characters(c, 0x80).encode(),
        lambda c: characters(c, 0x20).encode(),
        lambda c: "".join(c.choices(BLANKS, k=c.randrange(30))).encode(),
        lambda c: "".join(c.choice(WORDS) + c.choice(BLANKS) for _ in range(c.randrange(20))).encode(),
        lambda c: (c.choice(WORDS) * c.randrange(1, 200) + " ").encode() * c.randrange(1, 12),
        lambda c: characters(c, 0x3000).encode()[: c.randrange(1, 60)],
        lambda c: b"\xed\xa0" + bytes([0x80 + c.randrange(64)]),  # half of a surrogate pair
        lambda c: characters(c, 0x3000, 20_000).encode() if c.random() < 0.05 else b"long",
    ]
    return chance.choice(makers)(chance)


def characters(chance: random.Random, stop: int, most: int = 50) -> str:
    codes = (chance.randrange(stop) for _ in range(chance.randrange(most)))
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


# Images


def images(chance: random.Random) -> Iterator[bytes]:
    """Yield files of many formats and modes: half of them as they are, the others damaged."""
    whole = [data for seed in range(8) for data in files(np.random.default_rng([SEED, seed]))]
    while True:
        data = bytearray(chance.choice(whole))
        damage = chance.choice(("none", "none", "flip", "flip", "cut", "splice", "fill", "noise", "empty"))
        if damage == "flip":
            for _ in range(chance.choice((1, 1, 3, 30))):
                place = chance.randrange(min(len(data), chance.choice((64, 1024, 1 << 20))))
                data[place] ^= 1 << chance.randrange(8)
        elif damage == "cut":
            del data[chance.randrange(len(data)) :]
        elif damage == "splice":
            other = chance.choice(whole)
            data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]
        elif damage == "fill":
            start = chance.randrange(len(data))
            stop = min(len(data), start + chance.randrange(40))
            data[start:stop] = bytes([chance.choice((0, 255))]) * (stop - start)
        elif damage == "noise":
            data[chance.randrange(min(8, len(data))) :] = chance.randbytes(chance.randrange(200))
        elif damage == "empty":
            data.clear()
        yield bytes(data)


def files(chance: np.random.Generator) -> Iterator[bytes]:
    """Yield one small image in each format and mode."""
    width, height = (int(side) for side in chance.choice([1, 2, 3, 17, 40, 70], 2))
    noise = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
    deep = Image.fromarray(chance.integers(0, 2**16, (height, width), dtype=np.uint16))
    odd = Image.fromarray(chance.normal(0, 1e30, (height, width)).astype(np.float32))
    odd.putpixel((0, 0), float(chance.choice([np.nan, np.inf, -np.inf, 0.5])))
    clear = noise.convert("RGBA")
    clear.putalpha(Image.fromarray(chance.integers(0, 256, (height, width), dtype=np.uint8)))
    palette = noise.quantize(int(chance.integers(2, 257)))
    more = [palette, noise.convert("P"), palette]
    makers: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", noise, {}),
        ("JPEG", noise, {"progressive": True}),
        ("JPEG", noise.convert("L"), {}),
        ("JPEG", noise.convert("CMYK"), {}),
        ("PNG", noise, {}),
        ("PNG", noise, {"save_all": True, "append_images": [noise]}),
        ("PNG", noise.convert("1"), {}),
        ("PNG", clear, {}),
        ("PNG", clear.convert("LA"), {}),
        ("PNG", palette, {"transparency": 0}),
        ("PNG", deep, {}),
        ("WEBP", noise, {}),
        ("WEBP", noise, {"save_all": True, "append_images": [clear]}),
        ("WEBP", clear, {"lossless": True}),
        ("GIF", palette, {"transparency": 1}),
        ("GIF", palette, {"save_all": True, "append_images": more}),
        ("BMP", noise, {}),
        ("BMP", noise.convert("1"), {}),
        ("TIFF", noise.convert("CMYK"), {}),
        ("TIFF", noise.convert("LAB"), {}),
        ("TIFF", clear, {}),
        ("TIFF", deep, {}),
        ("TIFF", odd, {}),
        ("PPM", noise, {}),
        ("PPM", deep.convert("I"), {}),
    ]
    for form, image, options in makers:
        file = io.BytesIO()
        image.save(file, form, **options)
        yield file.getvalue()


def claiming(form: str, width: int, height: int) -> bytes:
    """Return an image of 8 × 8 pixels whose header claims another size, as far as the format can."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(file, form, **({"lossless": False} if form == "webp" else {}))
    data = bytearray(file.getvalue())
    if form == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif form == "jpeg":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", min(height, 65_500), min(width, 65_500))
    elif form == "gif":
        sides = struct.pack("<HH", min(width, 65_535), min(height, 65_535))
        data[6:10] = sides
        place = data.index(b",\0\0\0\0") + 5
        data[place : place + 4] = sides
    elif form == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        place = data.index(b"\x9d\x01\x2a") + 3
        data[place : place + 4] = struct.pack("<HH", min(width, 16_383), min(height, 16_383))
    return bytes(data)
