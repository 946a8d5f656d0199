"""Fetches a pool: metadata from the Hugging Face hub, images from the web through img2dataset."""

import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import ConfigError, PoolError, RunError
from ecodatum.files import write_json

#: Where CommonPool's metadata lie on the hub, by scale; DataComp-1B is the best filter's part of xlarge.
REPOSITORIES: Final[Mapping[str, str]] = {
    scale: f"mlfoundations/datacomp_{scale}" for scale in ("small", "medium", "large", "xlarge", "1b")
}
#: Rows of metadata that make a shard (DataComp's download_upstream.py).
SHARD_ROWS: Final = 10_000

_SOURCE: Final = "source.json"
_SUFFIXES: Final = (".parquet", "_stats.json", ".tar")


@dataclass(frozen=True)
class ImageSettings:
    """How images are fetched and encoded; the defaults are those of DataComp's download_upstream.py.

    image_size: pixels. resize_mode: img2dataset's `no`, `border`, `keep_ratio`, `keep_ratio_largest` or
    `center_crop`. retries: tries after the first. timeout: seconds. blur_faces: the metadata's boxes.
    """

    image_size: int = 512
    resize_mode: str = "keep_ratio_largest"
    resize_only_if_bigger: bool = True
    encode_format: str = "jpg"
    blur_faces: bool = True
    retries: int = 2
    timeout: int = 10


def remember(pool: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Keep facts in the pool's source.json, and return all that it holds.

    Raises ConfigError when the pool was made with others: a pool is fetched in one way.
    """
    path = pool / _SOURCE
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, value in facts.items():
        if known.setdefault(name, value) != value:
            raise ConfigError(
                f"was begun with {name} {known[name]!r}, not {value!r}",
                where=pool,
                todo="fetch into another folder, or go on as it was begun",
            )
    write_json(path, known)
    return known


def fetch_metadata(repo: str, pool: Path, *, embeddings: bool) -> str:
    """Fetch the metadata files, and with `embeddings` the npz files, and return the commit they are from.

    The hub's address is HF_ENDPOINT's, where that is set. What is there already is not fetched again, and
    a file that was cut goes on; the commit of the first fetch is kept. Raises RunError when the hub
    cannot be reached or has no such repository.
    """
    from huggingface_hub import HfApi, snapshot_download

    endpoint = os.environ.get("HF_ENDPOINT") or None
    patterns = ["*.parquet", *(["*.npz"] if embeddings else [])]
    known = remember(pool, {"repository": repo})
    try:
        commit = known.get("commit") or HfApi(endpoint=endpoint).dataset_info(repo).sha or "main"
        remember(pool, {"commit": commit})
        snapshot_download(
            repo,
            repo_type="dataset",
            revision=commit,
            local_dir=pool / "metadata",
            allow_patterns=patterns,
            endpoint=endpoint,
        )
    except Exception as error:  # the library's transport changes from version to version
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(
            f"cannot be fetched from the hub: {why}", where=repo, todo="give the same command again to go on"
        ) from error
    return commit


def shard_numbers(rows: list[int]) -> list[range]:
    """Return the shards of each metadata file, by its rows: img2dataset begins a shard at each file."""
    numbers, start = [], 0
    for count in rows:
        stop = start + -(-count // SHARD_ROWS)
        numbers.append(range(start, stop))
        start = stop
    return numbers


def finished(folder: Path, numbers: range) -> set[int]:
    """Return which shards are in a folder, whole: the stats file is written last."""
    return {number for number in numbers if _stats(folder, number) is not None}


def _stats(folder: Path, number: int) -> dict[str, Any] | None:
    stem = f"{number:08d}"
    try:
        stats: dict[str, Any] = json.loads((folder / f"{stem}_stats.json").read_text())
    except (OSError, ValueError):
        return None
    return stats if (folder / f"{stem}.tar").exists() else None


def require_downloader() -> None:
    """Raise ConfigError unless img2dataset can be used; it is not imported, which takes seconds."""
    missing = [name for name in ("img2dataset", "imghdr") if importlib.util.find_spec(name) is None]
    if missing:
        todo = "pip install 'ecodatum[download]'; img2dataset needs a Python before 3.13, for imghdr"
        raise ConfigError(f"fetching images needs {missing[0]}", todo=todo)


def fetch_images(
    metadata: Path,
    folder: Path,
    numbers: range,
    settings: ImageSettings,
    *,
    done: set[int],
    processes: int,
    threads: int,
) -> None:
    """Fetch the images of a metadata file into shards of these numbers, but for those that are `done`.

    processes, threads: of the download; threads is for each process. Raises PoolError when a shard could
    not be written.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its version
    from img2dataset.blurrer import BoundingBoxBlurrer
    from img2dataset.distributor import multiprocessing_distributor
    from img2dataset.downloader import Downloader
    from img2dataset.reader import Reader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    scratch = folder / "_tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    boxes = ["face_bboxes"] if settings.blur_faces else []
    # Its `download` cannot begin at a shard's number and leave out what is done; what it is made of can.
    reader = Reader(
        str(metadata),
        input_format="parquet",
        url_col="url",
        caption_col="text",
        verify_hash_col=None,
        verify_hash_type=None,
        save_additional_columns=["uid", *boxes],
        number_sample_per_shard=SHARD_ROWS,
        done_shards=done,
        tmp_path=str(scratch),
        start_shard_id=numbers.start,
    )
    resizer = Resizer(
        image_size=settings.image_size,
        resize_mode=settings.resize_mode,
        resize_only_if_bigger=settings.resize_only_if_bigger,
        encode_format=settings.encode_format,
        encode_quality=9 if settings.encode_format == "png" else 95,
        blurrer=BoundingBoxBlurrer() if boxes else None,
    )
    downloader = Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=resizer,
        thread_count=threads,
        save_caption=True,
        extract_exif=True,
        output_folder=str(folder),
        column_list=reader.column_list,
        timeout=settings.timeout,
        number_sample_per_shard=SHARD_ROWS,
        oom_shard_count=8,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format=settings.encode_format,
        retries=settings.retries,
        user_agent_token=None,
        disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
        blurring_bbox_col=boxes[0] if boxes else None,
    )
    multiprocessing_distributor(processes, downloader, reader, None, 1)
    missing = set(numbers) - done - finished(folder, numbers)
    if missing:
        raise PoolError(
            f"{len(missing)} of {len(numbers)} shards could not be written, the first {min(missing):08d}.tar",
            where=metadata,
            todo="the unit's log says why; give the same command again to go on",
        )


def move_shards(source: Path, pool: Path, numbers: range) -> None:
    """Move fetched shards to their place, each tar after what belongs to it; interrupted, go on."""
    for number in numbers:
        for suffix in _SUFFIXES:
            file = source / f"{number:08d}{suffix}"
            if file.exists():
                file.rename(pool / "shards" / file.name)


@dataclass(frozen=True)
class Fetched:
    """How a metadata file's images fared: rows, images, and the commonest reasons for those missing."""

    rows: int
    images: int
    reasons: tuple[tuple[str, int], ...]


def count_images(folder: Path, numbers: range, *, reasons: int = 3) -> Fetched:
    """Add up the stats files of shards."""
    every = [stats for number in numbers if (stats := _stats(folder, number)) is not None]
    failures: Counter[str] = Counter()
    for stats in every:
        failures.update(
            {why: count for why, count in stats.get("status_dict", {}).items() if why != "success"}
        )
    return Fetched(
        sum(stats["count"] for stats in every),
        sum(stats["successes"] for stats in every),
        tuple(failures.most_common(reasons)),
    )


def as_facts(settings: ImageSettings) -> Iterator[tuple[str, Any]]:
    """Yield the settings that a pool's bytes depend on, for `remember`."""
    for name, value in asdict(settings).items():
        if name not in {"retries", "timeout"}:
            yield name, value
