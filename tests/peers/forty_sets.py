"""Small sets for all of DataComp's forty tasks, made of real images in the layout that evaluate.py reads."""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ecodatum.content import content_root
from ecodatum.evaluate.sets import is_table
from ecodatum.evaluate.tasks import Task, load_tasks
from ecodatum.pool.archive import unpacked
from ecodatum.pool.shards import ShardWriter, read_shard

SAMPLES = 12
_TEMPLATES = ("a photo of {c}", "{c}")
_FACES = {
    "race": ("black", "white", "indian", "other"),
    "gender": ("male", "female"),
    "age": ("young", "grown", "old"),
    "toxic": tuple(f"toxic {number}" for number in range(22)),
}
#: How many values each of a sample's metadata takes.
_VALUES = {"race": 4, "gender": 2, "age": 3, "race_binary": 2}


def make_forty_sets(folder: Path, scratch: Path) -> Path:
    """Write the sets below `folder` and return it; the nano evaluation sets are unpacked into `scratch`."""
    images = list(islice(_real_images(scratch), 60))
    for number, task in enumerate(load_tasks("datacomp")):
        rng = np.random.default_rng(number)
        chosen = [images[i] for i in rng.permutation(len(images))[:SAMPLES]]
        (_write_table if is_table(task) else _write_labelled)(task, folder / task.data, chosen, rng)
    return folder


def _real_images(scratch: Path) -> Iterator[bytes]:
    sets = unpacked(content_root() / "experiments" / "nano" / "evalsets.tar.xz", scratch)
    for tar in sorted(sets.glob("wds_*/test/*.tar")):
        for sample in read_shard(tar):
            if sample.image is not None:
                yield sample.image


def _write_labelled(task: Task, folder: Path, images: list[bytes], rng: np.random.Generator) -> None:
    classes = [f"thing {number}" for number in range(min(task.classes or 0, 7))]
    templates = list(_TEMPLATES)
    if task.kind == "faces":
        classes = [f"{label}:{name}" for label, names in _FACES.items() for name in names]
        templates = [f"{label}:{template}" for label in _FACES for template in _TEMPLATES]
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")
    (folder / "test" / "nshards.txt").write_text("2\n")
    for shard in range(2):
        with (folder / "test" / f"{shard}.tar").open("wb") as file:
            writer = ShardWriter(file)
            for index in range(shard, len(images), 2):
                label = int(rng.integers(len(classes))) if task.kind != "faces" else 0
                members = {"cls": str(label).encode(), "png": images[index]}
                if (metadata := _metadata(task, label, rng)) is not None:
                    members["npy"] = metadata
                writer.write(f"s{index:04d}", members)
            writer.close()


def _metadata(task: Task, label: int, rng: np.random.Generator) -> bytes | None:
    if task.kind == "faces":
        names: tuple[str, ...] = ("age", "gender", "race", "race_binary")
    elif task.kind == "rare_classes":
        names = ("location", "sequence", "year", "month", "day", "hour", "minute", "second", "y")
    elif task.kind == "groups":
        names = task.metadata
    else:
        return None
    values = [label if name == "y" else int(rng.integers(_VALUES.get(name, 4))) for name in names]
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.int64))
    return buffer.getvalue()


def _write_table(task: Task, folder: Path, images: list[bytes], rng: np.random.Generator) -> None:
    pictures: list[dict[str, object]] = [
        {"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)
    ]
    if task.kind == "retrieval":
        captions = [[f"picture {number}", f"number {number}"] for number in range(len(pictures))]
        one, listed = datasets.Image(), datasets.Value("string")
        features = datasets.Features({"image": one, "caption": datasets.Sequence(listed)})
        rows: dict[str, list[Any]] = {"image": pictures, "caption": captions}
    else:
        features, rows = _associations(pictures, rng)
    folder.mkdir(parents=True)
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(str(folder / "test-00000-of-00001.parquet"))


def _associations(
    pictures: list[dict[str, object]], rng: np.random.Generator
) -> tuple[datasets.Features, dict[str, list[Any]]]:
    rows: dict[str, list[Any]] = {"candidates": [], "cue": [], "associations": [], "candidate_images": []}
    for number, size in enumerate((5, 6, 10, 12, 5, 12)):
        own = [int(i) for i in rng.permutation(len(pictures))[:size]]
        names = [f"name {i}" for i in own]
        rows["candidates"].append(names)
        rows["cue"].append(("Animal", "blue")[number % 2])
        rows["associations"].append(names[: 2 + number % 2])
        rows["candidate_images"].append([pictures[i] for i in own])
    words = datasets.Sequence(datasets.Value("string"))
    images = datasets.Sequence(datasets.Image())
    kinds = {"candidates": words, "cue": datasets.Value("string"), "associations": words}
    return datasets.Features({**kinds, "candidate_images": images}), rows
