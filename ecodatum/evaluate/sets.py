"""Reads evaluation sets in DataComp's local layout: webdataset folders, and parquet for retrieval."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ecodatum.errors import PoolError
from ecodatum.evaluate.tasks import Task
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pool.shards import Sample, read_shard

#: The members that may be a test image, in the order in which DataComp looks for them.
_IMAGES: Final = ("webp", "png", "jpg", "jpeg")
#: The columns of the sets that are read from parquet, by the kind of task.
_COLUMNS: Final = {
    "retrieval": ("image", "caption"),
    "associations": ("candidates", "cue", "associations", "candidate_images"),
}
_ROWS_AT_ONCE: Final = 64
_TODO: Final = "fetch this evaluation set again"


@dataclass(frozen=True, slots=True)
class TestImage:
    """An encoded image with its labels: the class (`cls`), and the metadata (`npy`), where there are such."""

    image: bytes
    where: str
    label: int | None = None
    metadata: np.ndarray | None = None


class LabelledSet:
    """A folder `wds_<task>_test`: images in tars, class names and prompt templates in text files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise PoolError("no such evaluation set", where=folder, todo="see what lies beside it")
        count = self._lines("test/nshards.txt")
        if len(count) != 1 or not count[0].isdigit():
            raise PoolError("does not hold the number of shards", where=folder / "test" / "nshards.txt")
        self.shards = [folder / "test" / f"{number}.tar" for number in range(int(count[0]))]
        self.classes = self._lines("classnames.txt")
        self.templates = self._lines("zeroshot_classification_templates.txt")

    def prompts(self, classes: list[str], templates: list[str]) -> list[str]:
        """Return the prompts of each class in turn; raises PoolError for a template that cannot be filled."""
        try:
            return [template.format(c=name) for name in classes for template in templates]
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            where = self.folder / "zeroshot_classification_templates.txt"
            raise PoolError(f"a template cannot be filled: {error!r}", where=where) from error

    def images(self) -> Iterator[TestImage]:
        """Yield the images with their labels, shard after shard; raises PoolError when one is damaged."""
        for shard in self.shards:
            for sample in read_shard(shard):
                yield _labelled(sample, f"{shard}: {sample.key}")

    def fingerprint(self) -> str:
        """Return a hash of the set's files."""
        texts = [self.classes, self.templates]
        return fingerprint([texts, [file_fingerprint(path) for path in self.shards if path.exists()]])

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise PoolError(f"cannot be read: {error}", where=path, todo=_TODO) from None
        if not lines:
            raise PoolError("is empty", where=path, todo=_TODO)
        return lines


def _labelled(sample: Sample, where: str) -> TestImage:
    image = next((sample.members[kind] for kind in _IMAGES if kind in sample.members), None)
    if image is None:
        raise PoolError("the sample has no image", where=where, todo=_TODO)
    try:
        label = int(sample.members["cls"]) if "cls" in sample.members else None
        npy = sample.members.get("npy")
        metadata = None if npy is None else np.load(io.BytesIO(npy), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise PoolError(f"unreadable label: {error}", where=where, todo=_TODO) from error
    return TestImage(image, where, label, metadata)


class TableSet:
    """A folder of parquet files `test-*.parquet`, as the hub converts data sets to."""

    def __init__(self, folder: Path, columns: tuple[str, ...]) -> None:
        self.folder, self.columns = folder, columns
        self.files = sorted(folder.glob("test-*.parquet"))
        if not self.files:
            raise PoolError("no test-*.parquet here", where=folder, todo="see what lies beside it")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order; raises PoolError when a file is damaged or lacks a column."""
        for path in self.files:
            try:
                for batch in pq.ParquetFile(path).iter_batches(_ROWS_AT_ONCE, columns=list(self.columns)):
                    missing = set(self.columns) - set(batch.schema.names)
                    if missing:
                        raise PoolError(f"has no column {', '.join(sorted(missing))}", where=path)
                    yield from batch.to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise PoolError(f"damaged parquet: {error}", where=path, todo=_TODO) from error

    def fingerprint(self) -> str:
        """Return a hash of the set's files."""
        return fingerprint([file_fingerprint(path) for path in self.files])


def table_set(task: Task, folder: Path) -> TableSet:
    """Return the set of a task that is read from parquet."""
    return TableSet(folder, _COLUMNS[task.kind])


def data_fingerprint(task: Task, folder: Path) -> str:
    """Return a hash of a task's data; raises PoolError when it is missing."""
    data = table_set(task, folder) if is_table(task) else LabelledSet(folder)
    return data.fingerprint()


def is_table(task: Task) -> bool:
    """Tell whether a task's set is parquet; the others are webdataset folders."""
    return task.kind in _COLUMNS


def decode_rgb(test: TestImage) -> Image.Image:
    """Decode an image to RGB, as webdataset does; raises PoolError when it is damaged."""
    return _decode(test).convert("RGB")


def decode_upright(test: TestImage) -> Image.Image:
    """Decode an image in its own mode, turned as its EXIF says, as the `datasets` library does."""
    image = _decode(test)
    if image.getexif().get(ExifTags.Base.Orientation) is not None:
        return ImageOps.exif_transpose(image)
    return image


def _decode(test: TestImage) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(test.image))
        image.load()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise PoolError(f"damaged image: {error}", where=test.where, todo=_TODO) from error
    return image
