"""The evaluation sets, in DataComp's local layout, drawn by vendors that the pool does not contain."""

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import captions
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pool import add_member
from render import compose, encode, grain, plain_scene, rasterise, sketch, textured_scene, without_colour
from sources import Concept, vendors

_SHARD: Final = 500
_CAPTIONS: Final = 3
_ASSOCIATIONS: Final = 160
#: Share of the image's side that the object fills, in the groups of the task on sizes.
_SIZES: Final = (0.95, 0.8, 0.65, 0.5)
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

Draw = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Example:
    """One test image with its class, and the groups that it belongs to, where the task has any."""

    image: bytes
    label: int
    groups: tuple[int, ...] = ()


def plain(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The icon on a light background."""
    return compose(icon, plain_scene(rng), rng)


def greyscale(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without colour."""
    return without_colour(plain(icon, rng))


def lines(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Only the edges, as in a pencil sketch."""
    return sketch(plain(icon, rng))


def textured(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """On a blotchy, coloured background."""
    return compose(icon, textured_scene(rng), rng)


def small(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The icon fills only a half or less of the image's side."""
    return compose(icon, replace(plain_scene(rng), fill=float(rng.uniform(0.42, 0.56))), rng)


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
    for task, draw, vendor in _NAME_TASKS:
        styles = [vendor] if vendor else studio.styles
        renders = 2 // len(styles)
        examples = [
            Example(studio.shot(task, style, concept, draw, render), label)
            for label, concept in enumerate(concepts)
            for style in styles
            for render in range(renders)
        ]
        _write_classification(folder / f"wds_{task}_test", _names(concepts), examples)
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
        _write_classification(folder / f"wds_{task}_test", _names(members), examples)
    _write_groups(folder, concepts, studio)
    _write_long_tail(folder, concepts[1::2], studio)
    _write_associations(folder / "nano" / "associations", concepts, studio)
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
        classes = _classes(concepts, word)
        examples = [
            Example(studio.shot(task, style, concept, plain, 0), classes.index(word(concept)))
            for concept in concepts
            if word(concept) in classes
            for style in studio.styles
        ]
        _write_classification(folder / f"wds_{task}_test", classes, examples, captions.GROUP_TEMPLATES)


def _write_groups(folder: Path, concepts: list[Concept], studio: _Studio) -> None:
    """Three tasks scored by their worst group: drawing style, size of the object, and category."""
    styles: list[tuple[str, Draw]] = [(style, draw) for draw in (plain, textured) for style in studio.styles]
    quarter, other_quarter = concepts[::4], concepts[2::4]
    examples = [
        Example(studio.shot("nano-styles", style, concept, draw, render), label, (group, 0))
        for label, concept in enumerate(quarter)
        for group, (style, draw) in enumerate(styles)
        for render in range(4)
    ]
    _write_classification(folder / "wds_nano-styles_test", _names(quarter), examples)
    examples = [
        Example(studio.shot("nano-sizes", style, concept, _sized(group), render), label, (group,))
        for label, concept in enumerate(other_quarter)
        for group in range(len(_SIZES))
        for style in studio.styles
        for render in range(2)
    ]
    _write_classification(folder / "wds_nano-sizes_test", _names(other_quarter), examples)
    categories = sorted({concept.category for concept in concepts})
    examples = [
        Example(
            studio.shot("nano-worlds", style, concept, plain, render),
            label,
            (categories.index(concept.category), group, label),
        )
        for label, concept in enumerate(concepts)
        for group, style in enumerate(studio.styles)
        for render in range(2)
    ]
    _write_classification(folder / "wds_nano-worlds_test", _names(concepts), examples)


def _sized(group: int) -> Draw:
    fill = _SIZES[group]

    def draw(icon: Image.Image, rng: np.random.Generator) -> Image.Image:
        return compose(icon, replace(plain_scene(rng), fill=fill), rng)

    return draw


def _write_long_tail(folder: Path, concepts: list[Concept], studio: _Studio) -> None:
    """Classes of one to eight images, scored by macro F1."""
    counts = studio.rng("nano-rare").permutation(np.arange(len(concepts)) % 8 + 1)
    examples = [
        Example(studio.shot("nano-rare", studio.styles[render % 2], concept, plain, render), label)
        for label, (concept, count) in enumerate(zip(concepts, counts, strict=True))
        for render in range(count)
    ]
    _write_classification(folder / "wds_nano-rare_test", _names(concepts), examples)


def _write_associations(folder: Path, concepts: list[Concept], studio: _Studio) -> None:
    """WinoGAViL's game: a cue, and 5 to 12 pictures of which those of that group are to be chosen."""
    folder.mkdir(parents=True)
    rng = studio.rng(folder.name)
    groups = {
        word: [c for c in concepts if captions.group_word(c) == word]
        for word in _classes(concepts, captions.group_word)
    }
    rows = []
    for turn in range(_ASSOCIATIONS):
        cue = sorted(groups)[turn % len(groups)]
        size = (10, 12, 10, 12, 5, 6)[turn % 6]
        right = min(len(groups[cue]), int(rng.integers(2, size // 2 + 1)))
        others = [concept for concept in concepts if concept not in groups[cue]]
        chosen = [groups[cue][i] for i in rng.permutation(len(groups[cue]))[:right]]
        chosen += [others[i] for i in rng.permutation(len(others))[: size - right]]
        style = studio.styles[turn // len(groups) % 2]
        pictures = [studio.shot(folder.name, style, concept, plain, 0) for concept in chosen]
        order = rng.permutation(size)
        rows.append(
            {
                "candidates": [chosen[i].name for i in order],
                "cue": cue,
                "associations": [concept.name for concept in chosen[:right]],
                "candidate_images": [{"bytes": pictures[i], "path": None} for i in order],
            }
        )
    strings = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("candidates", strings),
            ("cue", pa.string()),
            ("associations", strings),
            ("candidate_images", pa.list_(_IMAGE)),
        ]
    )
    _write_parquet(folder, pa.Table.from_pylist(rows, schema))


def _write_retrieval(folder: Path, style: str, concepts: list[Concept], studio: _Studio) -> None:
    folder.mkdir(parents=True)
    images, texts = [], []
    for concept in concepts:
        rng = studio.rng(folder.name, concept.name)
        path = f"{concept.name.replace(' ', '_')}.webp"
        images.append({"bytes": studio.shot(folder.name, style, concept, plain, 0), "path": path})
        texts.append([captions.good(concept, rng) for _ in range(_CAPTIONS)])
    schema = pa.schema([("image", _IMAGE), ("caption", pa.list_(pa.string()))])
    _write_parquet(folder, pa.Table.from_pydict({"image": images, "caption": texts}, schema))


def _write_parquet(folder: Path, table: pa.Table) -> None:
    """Uncompressed, for the archive around it compresses better."""
    pq.write_table(table, folder / "test-00000-of-00001.parquet", compression="none", use_dictionary=False)


def _write_classification(
    folder: Path,
    classes: Iterable[str],
    examples: list[Example],
    templates: Iterable[str] = captions.NAME_TEMPLATES,
) -> None:
    (folder / "test").mkdir(parents=True)
    _write_lines(folder / "classnames.txt", classes)
    _write_lines(folder / "zeroshot_classification_templates.txt", templates)
    shards = [examples[start : start + _SHARD] for start in range(0, len(examples), _SHARD)]
    _write_lines(folder / "test" / "nshards.txt", [str(len(shards))])
    for number, shard in enumerate(shards):
        with tarfile.open(folder / "test" / f"{number}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, example in enumerate(shard, start=number * _SHARD):
                add_member(tar, f"s{index:07d}.cls", str(example.label).encode())
                if example.groups:
                    add_member(tar, f"s{index:07d}.npy", _npy(example.groups))
                add_member(tar, f"s{index:07d}.webp", example.image)


def _names(concepts: Iterable[Concept]) -> list[str]:
    return [concept.name for concept in concepts]


def _classes(concepts: Iterable[Concept], word: Callable[[Concept], str]) -> list[str]:
    """The words that stand for two concepts or more."""
    return sorted(name for name, count in Counter(map(word, concepts)).items() if count >= 2)


def _npy(values: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.int64))
    return buffer.getvalue()


def _write_lines(path: Path, values: Iterable[str]) -> None:
    path.write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
