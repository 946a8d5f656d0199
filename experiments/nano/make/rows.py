"""The pool's rows: which picture and caption each has, and what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import captions
import numpy as np
from faults import IMAGE_FAULTS, banner, near_duplicate
from PIL import Image
from render import encode, photograph, rasterise
from sources import Concept, vendors

#: Share of each kind of row; a row's kind is its first fault.
SHARES: Final = {
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
#: Share of the rows with a faulty caption whose image is faulty too.
SECOND_FAULT: Final = 0.12
#: Share of all rows whose image can no longer be downloaded.
MISSING: Final = 0.02
#: Share of swapped captions that come from the same subcategory, where it has another concept.
CLOSE_SWAP: Final = 0.25

_CAPTION_FAULTS: Final = ("swapped", "file name", "boilerplate", "other language")
_SECOND_FAULTS: Final = (*IMAGE_FAULTS, "extreme aspect")


@dataclass(frozen=True)
class Row:
    """One row of the pool, with the truth about it."""

    uid: str
    kind: str
    second: str
    detail: str
    dup_of: str
    concept: Concept
    vendor: str
    missing: bool
    caption: str
    image: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    url: str

    @property
    def clean(self) -> bool:
        """Whether the row is a good pair that can be trained on."""
        return self.kind == "clean" and not self.missing


def make_rows(concepts: list[Concept], cache_folder: Path, count: int, seed: int) -> list[Row]:
    """Make the rows of the pool in their order; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, 0])
    kinds = _kinds(rng, count)
    words = rng.integers(0, 2**64, (count, 2), dtype=np.uint64)
    uids = [f"{high:016x}{low:016x}" for high, low in words.tolist()]
    missing = np.zeros(count, bool)
    missing[rng.permutation(count)[: round(MISSING * count)]] = True
    rows: list[Row | None] = [None] * count
    for index in range(count):
        if kinds[index] != "near duplicate":
            row_rng = np.random.default_rng([seed, 1, index])
            row = _make_row(uids[index], kinds[index], concepts, cache_folder, row_rng)
            rows[index] = replace(row, missing=bool(missing[index]))
    originals = _originals(rows, rng)
    for index in [index for index, kind in enumerate(kinds) if kind == "near duplicate"]:
        row_rng = np.random.default_rng([seed, 1, index])
        copy = _copy(uids[index], next(originals), row_rng)
        rows[index] = replace(copy, missing=bool(missing[index]))
    return [row for row in rows if row is not None]


def _kinds(rng: np.random.Generator, count: int) -> list[str]:
    names = list(SHARES)
    counts = [round(SHARES[name] * count) for name in names]
    counts[0] += count - sum(counts)
    kinds = np.repeat(names, counts)
    return [str(kind) for kind in rng.permutation(kinds)]


def _make_row(
    uid: str, kind: str, concepts: list[Concept], cache_folder: Path, rng: np.random.Generator
) -> Row:
    concept = concepts[rng.integers(len(concepts))]
    drawn_by = [vendor for vendor in vendors("pool") if concept.icon(vendor.name)]
    vendor = drawn_by[rng.integers(len(drawn_by))]
    second = ""
    if kind in _CAPTION_FAULTS and rng.random() < SECOND_FAULT:
        second = _SECOND_FAULTS[rng.integers(len(_SECOND_FAULTS))]
    caption, detail = _caption(kind, concept, concepts, rng)
    image = _image({kind, second}, rasterise(cache_folder, vendor, concept), rng)
    width, height = _original_size(image, kind, rng)
    return Row(
        uid, kind, second, detail, "", concept, vendor.name, False, caption, encode(image),
        image.width, image.height, width, height, _url(uid, rng),
    )  # fmt: skip


def _caption(
    kind: str, concept: Concept, concepts: list[Concept], rng: np.random.Generator
) -> tuple[str, str]:
    """The caption, and a word on it for the truth."""
    if kind == "swapped":
        others = [other for other in concepts if other.name != concept.name]
        close = [other for other in others if other.subcategory == concept.subcategory]
        pick = close if close and rng.random() < CLOSE_SWAP else others
        other = pick[rng.integers(len(pick))]
        return captions.good(other, rng), other.name
    if kind == "file name":
        return captions.file_name(concept, rng), ""
    if kind == "boilerplate":
        return captions.boilerplate(concept, rng), ""
    if kind == "other language":
        return captions.foreign(concept, rng)
    return captions.good(concept, rng), ""


def _image(faults: set[str], icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    if "extreme aspect" in faults:
        return banner(icon, rng)
    image = photograph(icon, rng)
    for name, fault in IMAGE_FAULTS.items():
        if name in faults:
            image = fault(image, rng)
    return image


def _original_size(image: Image.Image, kind: str, rng: np.random.Generator) -> tuple[int, int]:
    """The size before the resize, of the image's shape; pages with faults have more thumbnails."""
    typical = 460 if kind == "clean" else 380
    shorter = int(np.clip(np.exp(rng.normal(np.log(typical), 0.6)), 48, 3000))
    scale = shorter / min(image.size)
    return round(image.width * scale), round(image.height * scale)


def _url(uid: str, rng: np.random.Generator) -> str:
    server = f"{rng.choice(['img', 'cdn', 'static', 'www'])}{int(rng.integers(1, 9))}"
    host = f"{server}.site{int(rng.integers(4000))}"
    return f"https://{host}.example/{uid[:2]}/{uid[2:12]}.{rng.choice(['jpg', 'png', 'webp'])}"


def _originals(rows: list[Row | None], rng: np.random.Generator) -> Iterator[Row]:
    """Rows to copy: a few are copied often, as popular pictures are; four in five are good ones."""
    present = [row for row in rows if row is not None and not row.missing]
    pools = [[row for row in present if row.kind == kind] for kind in ("clean", "swapped")]
    popular = [[pool[i] for i in rng.permutation(len(pool))[:120]] for pool in pools]
    while True:
        chosen = popular[0 if rng.random() < 0.8 else 1]
        yield chosen[int(min(rng.zipf(1.5), len(chosen))) - 1]


def _copy(uid: str, original: Row, rng: np.random.Generator) -> Row:
    image, data, how = near_duplicate(original.image, rng)
    caption = original.caption
    if original.kind == "clean" and rng.random() < 0.4:
        caption = captions.good(original.concept, rng)
    width, height = _original_size(image, "near duplicate", rng)
    return replace(
        original, uid=uid, kind="near duplicate", second="", detail=how, dup_of=original.uid, caption=caption,
        image=data, width=image.width, height=image.height, original_width=width, original_height=height,
        url=_url(uid, rng),
    )  # fmt: skip
