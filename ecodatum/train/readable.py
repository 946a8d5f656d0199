"""Training shards before training: which they are, and whether there is anything in them to train on."""

import io
from collections.abc import Iterator
from pathlib import Path

import braceexpand
from PIL import Image, UnidentifiedImageError

from ecodatum.errors import PoolError
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pool.shards import read_shard
from ecodatum.train.arguments import input_shards


def data_identity(data: str | Path, weights: str | None) -> str:
    """Return a hash of the data trained on: the shards' names and sizes, and their lists of samples.

    `data` and `weights` are as for `input_shards`. Raises PoolError when they cannot be trained on.
    """
    shards, factors = input_shards(data, weights)
    require_readable(shards)
    files = local_shards(shards)
    lists = sorted({file.parent / "sample_ids.npy" for file in files})
    return fingerprint(
        [
            [[file.name, file.stat().st_size] for file in files],
            [file_fingerprint(path) for path in lists if path.exists()],
            [source for source in shards.split("::") if source.startswith("pipe:")],
            factors,
        ]
    )


def local_shards(shards: str) -> list[Path]:
    """Return the files that `--train-data` stands for, those behind a pipe left out."""
    sources = (source for source in shards.split("::") if not source.startswith("pipe:"))
    return [Path(file) for source in sources for file in braceexpand.braceexpand(source)]


def require_readable(shards: str) -> None:
    """Read local shards up to the first sample that can be trained on; the trainer would wait for ever.

    `shards` is in the form of `--train-data`. Raises PoolError when a shard is missing, one that is read
    is damaged, or no sample in all of them has a caption and an image.
    """
    files = local_shards(shards)
    for file in files:
        if not file.is_file():
            raise PoolError("no such shard", where=file)
    if files and not any(_trainable(files)):
        raise PoolError(
            f"no sample in {len(files)} shards has a caption and a readable image",
            where=files[0].parent,
            todo="an empty selection cannot be trained on",
        )


def _trainable(files: list[Path]) -> Iterator[bool]:
    for file in files:
        for sample in read_shard(file):
            yield "txt" in sample.members and sample.image is not None and _decodes(sample.image)


def _decodes(image: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(image)) as picture:
            picture.load()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True
