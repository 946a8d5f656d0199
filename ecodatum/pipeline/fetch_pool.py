"""Fetches a pool's images: an array over its metadata files, then the shards moved to their place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecodatum.files import make_folder, remove
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pipeline.units import Output, Progress, Unit
from ecodatum.pool import fetching
from ecodatum.pool.fetching import Fetched, ImageSettings
from ecodatum.pool.pool import metadata_files, part_name, row_count

STAGE = "fetch"
#: Where shards are until a metadata file's are whole, below `shards/`.
_WAITING = ".parts"


@dataclass(frozen=True)
class FetchImages:
    """Fetch the images of one metadata file."""

    metadata: Path
    pool: Path
    numbers: range
    settings: ImageSettings
    processes: int
    threads: int

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the shards that are missing."""
        folder = outputs[""]
        here = fetching.finished(self.pool / "shards", self.numbers)
        done = here | fetching.finished(folder, self.numbers)
        fetching.fetch_images(
            self.metadata,
            folder,
            self.numbers,
            self.settings,
            done=done,
            processes=self.processes,
            threads=self.threads,
        )
        remove(folder / "_tmp")
        return {"shards": len(self.numbers), "done_before": len(done)}

    def parameters(self) -> dict[str, Any]:
        """Return how images are fetched."""
        return {"settings": asdict(self.settings), "shards": [self.numbers.start, self.numbers.stop]}


@dataclass(frozen=True)
class PoolFetch:
    """What is to be fetched of a pool: a unit for each metadata file whose shards are not all there."""

    pool: Path
    units: tuple[Unit, ...]
    numbers: Mapping[str, range]
    folder: Path

    def settle(self) -> dict[str, Fetched]:
        """Move what the units fetched to its place, and return how each metadata file fared."""
        for unit in self.units:
            fetching.move_shards(unit.output.path, self.pool, self.numbers[unit.name])
        remove(self.pool / "shards" / _WAITING)
        shards = self.pool / "shards"
        return {name: fetching.count_images(shards, numbers) for name, numbers in self.numbers.items()}


def plan_fetch(pool: Path, settings: ImageSettings, *, processes: int, threads: int, work: Path) -> PoolFetch:
    """Plan what of a pool's images is to be fetched; the metadata are there.

    processes, threads: of each metadata file's download. work: where the logs are. Raises PoolError for
    metadata that cannot be read, ConfigError for a pool that was begun with other settings.
    """
    files = metadata_files(pool)
    fetching.remember(pool, {"images": dict(fetching.as_facts(settings))})
    make_folder(pool / "shards")
    numbers = fetching.shard_numbers([row_count(file) for file in files])
    folder = work / "fetch" / fingerprint(str(pool))
    units, by_name = [], {}
    for file, own in zip(files, numbers, strict=True):
        name = part_name(file, pool)
        by_name[name] = own
        if len(fetching.finished(pool / "shards", own)) == len(own):
            continue
        mark = fingerprint([file_fingerprint(file), own.start, dict(fetching.as_facts(settings))])
        output = Output(pool / "shards" / _WAITING / name, mark)
        job = FetchImages(file, pool, own, settings, processes, threads)
        log = folder / "logs" / f"{name}.log"
        units.append(Unit(STAGE, name, (output,), job, size=len(own), of="shards", resumable=True, log=log))
    return PoolFetch(pool, tuple(units), by_name, folder)
