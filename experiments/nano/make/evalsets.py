"""The evaluation sets, in DataComp's local layout, drawn by vendors that the pool does not contain."""

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import captions
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pool import add_member
from render import SIDE, Scene, compose, encode, grain, plain_scene, rasterise, sketch, textured_scene
from sources import Concept, vendors

_SHARD: Final = 500
_CAPTIONS: Final = 3

Draw = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Example:
    """One test image with its class, and the group that it belongs to where the task has groups."""

    image: bytes
    label: int
    group: int | None = None


def plain(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The icon on a light background."""
    return compose(icon, plain_scene(rng), rng)


def greyscale(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without colour."""
    return plain(icon, rng).convert("L").convert("RGB")


def lines(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Only the edges, as in a pencil sketch."""
    return sketch(plain(icon, rng))


def textured(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """On a blotchy, coloured background."""
    return compose(icon, textured_scene(rng), rng)


def small(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The icon fills only a third to a half of the image's side."""
    scene = plain_scene(rng)
    small_scene = Scene(SIDE, SIDE, float(rng.uniform(0.35, 0.5)), scene.angle, scene.background)
    return compose(icon, small_scene, rng)


def noisy(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With heavy noise."""
    return grain(plain(icon, rng), rng, 32.0)


#: Name tasks over all concepts: folder, how the image is drawn, and by which vendor (None: both).
_NAME_TASKS: Final[tuple[tuple[str, Draw, str | None], ...]] = (
    ("nano-names", plain, "fluent-emoji-flat"),
    ("nano-greyscale", greyscale, None),
    ("nano-sketch", lines, None),
    ("nano-background", textured, None),
    ("nano-small", small, None),
    ("nano-noisy", noisy, None),
    ("nano-3d", plain, "fluent-emoji"),
)


def write_evalsets(folder: Path, concepts: list[Concept], cache_folder: Path, seed: int) -> None:
    """Write every task's data under `folder`, which must not hold them yet."""
    studio = _Studio(cache_folder, seed)
    names = [concept.name for concept in concepts]
    for task, draw, vendor in _NAME_TASKS:
        styles = [vendor] if vendor else studio.styles
        renders = 2 // len(styles)
        examples = [
            Example(studio.shot(task, style, concept, draw, render), label)
            for label, concept in enumerate(concepts)
            for style in styles
            for render in range(renders)
        ]
        _write_classification(folder / f"wds_{task}_test", names, examples)
    _write_groupings(folder, concepts, studio)
    for category in dict.fromkeys(concept.category for concept in concepts):
        members = [concept for concept in concepts if concept.category == category]
        task = f"nano-{category.split(' ')[0].lower()}"
        examples = [
            Example(studio.shot(task, style, concept, plain, render), label)
            for label, concept in enumerate(members)
            for style in studio.styles
            for render in range(2)
        ]
        _write_classification(folder / f"wds_{task}_test", [concept.name for concept in members], examples)
    _write_styles(folder, concepts[::4], studio)
    for style, task in zip(studio.styles, ("flat_retrieval", "3d_retrieval"), strict=True):
        _write_retrieval(folder / "nano" / task, style, concepts, studio)


class _Studio:
    """Draws a concept for a task; what it draws depends on the names alone, not on the order."""

    def __init__(self, cache_folder: Path, seed: int) -> None:
        self.cache_folder, self.seed = cache_folder, seed
        self.styles = [vendor.name for vendor in vendors("evaluation")]

    def rng(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, 4, *"/".join(names).encode()])

    def shot(self, task: str, style: str, concept: Concept, draw: Draw, render: int) -> bytes:
        vendor = next(vendor for vendor in vendors("evaluation") if vendor.name == style)
        rng = self.rng(task, style, concept.name, str(render))
        return encode(draw(rasterise(self.cache_folder, vendor, concept), rng), 75)


def _write_groupings(folder: Path, concepts: list[Concept], studio: _Studio) -> None:
    """The two tasks whose classes are groups of concepts: five categories, and the subcategories."""
    for task, word in (
        ("nano-categories", captions.category_word),
        ("nano-subcategories", captions.group_word),
    ):
        sizes = Counter(map(word, concepts))
        classes = sorted(name for name, size in sizes.items() if size >= 2)
        examples = [
            Example(studio.shot(task, style, concept, plain, 0), classes.index(word(concept)))
            for concept in concepts
            if word(concept) in classes
            for style in studio.styles
        ]
        _write_classification(folder / f"wds_{task}_test", classes, examples)


def _write_styles(folder: Path, concepts: Sequence[Concept], studio: _Studio) -> None:
    """A quarter of the names in four styles; the style is the group, as GeoDE's is the region."""
    groups: list[tuple[str, Draw]] = [(style, draw) for draw in (plain, textured) for style in studio.styles]
    examples = [
        Example(studio.shot("nano-styles", style, concept, draw, render), label, group)
        for label, concept in enumerate(concepts)
        for group, (style, draw) in enumerate(groups)
        for render in range(4)
    ]
    _write_classification(folder / "wds_nano-styles_test", [concept.name for concept in concepts], examples)


def _write_retrieval(folder: Path, style: str, concepts: list[Concept], studio: _Studio) -> None:
    folder.mkdir(parents=True)
    images, texts = [], []
    for concept in concepts:
        rng = studio.rng(folder.name, concept.name)
        path = f"{concept.name.replace(' ', '_')}.webp"
        images.append({"bytes": studio.shot(folder.name, style, concept, plain, 0), "path": path})
        texts.append([captions.good(concept, rng) for _ in range(_CAPTIONS)])
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("caption", pa.list_(pa.string())),
        ]
    )
    table = pa.Table.from_pydict({"image": images, "caption": texts}, schema)
    pq.write_table(table, folder / "test-00000-of-00001.parquet", compression="none", use_dictionary=False)


def _write_classification(folder: Path, classes: Iterable[str], examples: list[Example]) -> None:
    (folder / "test").mkdir(parents=True)
    _write_lines(folder / "classnames.txt", classes)
    _write_lines(folder / "zeroshot_classification_templates.txt", captions.EVALUATION_TEMPLATES)
    shards = [examples[start : start + _SHARD] for start in range(0, len(examples), _SHARD)]
    _write_lines(folder / "test" / "nshards.txt", [str(len(shards))])
    for number, shard in enumerate(shards):
        with tarfile.open(folder / "test" / f"{number}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, example in enumerate(shard, start=number * _SHARD):
                add_member(tar, f"s{index:07d}.cls", str(example.label).encode())
                if example.group is not None:
                    add_member(tar, f"s{index:07d}.npy", _npy([example.group, 0]))
                add_member(tar, f"s{index:07d}.webp", example.image)


def _npy(values: list[int]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.int64))
    return buffer.getvalue()


def _write_lines(path: Path, values: Iterable[str]) -> None:
    path.write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
