"""Reshards a whole pool to one folder: an array over its parts, then their shards numbered through."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecodatum.files import make_folder
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pipeline.units import Output, Progress, Unit
from ecodatum.pool import joining
from ecodatum.pool.faces import FaceTreatment
from ecodatum.pool.location import copy_file, is_remote, remove_folder
from ecodatum.pool.pool import Part, Pool
from ecodatum.pool.resharding import META, SHARD_FORMAT, STATS_FORMAT, Resharded, reshard
from ecodatum.pool.subsets import read_subset

STAGE = "reshard"
#: Raise it when a reshard writes other bytes.
_VERSION = 1


@dataclass(frozen=True)
class ReshardPart:
    """Copy a part's samples that are in a subset to shards, in `remote` where that is given."""

    part: Part
    subset: Path
    shard_size: int
    faces: FaceTreatment | None
    remote: Path | None

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write the shards."""
        done = reshard(
            self.part,
            read_subset(self.subset),
            outputs[""],
            shard_size=self.shard_size,
            faces=self.faces,
            deliver=self._upload if self.remote is not None else None,
            progress=progress,
        )
        return asdict(done)

    def _upload(self, file: Path) -> None:
        assert self.remote is not None
        copy_file(file, self.remote / file.name)
        if file.name != META:
            file.unlink()

    def parameters(self) -> dict[str, Any]:
        """Return what the shards depend on besides the part and the subset."""
        return {"shard_size": self.shard_size, "faces": asdict(self.faces) if self.faces else None}


@dataclass(frozen=True)
class PoolReshard:
    """A reshard of a pool: its units, one a part that has shards, and what they make together."""

    pool: Pool
    subset: Path
    out: Path
    shard_size: int
    faces: FaceTreatment | None
    units: tuple[Unit, ...]
    fingerprint: str
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether `out` holds the whole result; raises ConfigError when it holds anything else."""
        return joining.is_joined(self.out, self.fingerprint)

    def join(self) -> Resharded:
        """Put together what the units made, all of which are done, and return the counts."""
        parts = [
            joining.ReshardedPart(
                self.out / joining.PARTS / unit.name, Resharded(**unit.output.read()["counts"])
            )
            for unit in self.units
        ]
        joining.join(parts, self.out, self.subset, self._fields(), self.fingerprint)
        remove_folder(self.folder)
        return joining.total([part.done for part in parts])

    def _fields(self) -> dict[str, str]:
        """Return the settings as DataComp's resharder names and writes them."""
        faces = self.faces or FaceTreatment()
        return {
            "input_dir": str(self.pool.path / "shards"),
            "output_dir": str(self.out),
            "subset_file": str(self.subset),
            "shard_size": str(self.shard_size),
            "shard_format": SHARD_FORMAT,
            "shard_stats_format": STATS_FORMAT,
            "apply_blur": str(faces.blur),
            "inject_blur_metadata": str(faces.inject),
            "reencode_webp_quality": str(faces.quality),
        }


def plan_reshard(
    pool: Pool, subset: Path, out: Path, *, shard_size: int, faces: FaceTreatment | None, work: Path
) -> PoolReshard:
    """Plan the reshard of a pool to `out`, which may be in a bucket, as may the pool and the subset.

    work: where the logs are, and, of an `out` in a bucket, what is not uploaded yet. Raises PoolError for
    a subset that is none.
    """
    read_subset(subset)
    how = [_VERSION, shard_size, asdict(faces) if faces else None]
    subset_mark = file_fingerprint(subset)
    parts = [part for part in pool.parts if part.shards]
    marks = [fingerprint([how, subset_mark, part.fingerprint, part.shards_fingerprint]) for part in parts]
    whole = fingerprint(marks)
    folder = work / "reshard" / whole
    if is_remote(subset):
        make_folder(folder)
        copy_file(subset, folder / joining.SAMPLES)
        subset = folder / joining.SAMPLES
    units = []
    for part, mark in zip(parts, marks, strict=True):
        remote = out / joining.PARTS / part.name if is_remote(out) else None
        place = folder / "parts" / part.name if remote else out / joining.PARTS / part.name
        job = ReshardPart(part, subset, shard_size, faces, remote)
        samples = sum(shard.samples for shard in part.shards)
        log = folder / "logs" / f"{part.name}.log"
        output = Output(place, mark)
        units.append(Unit(STAGE, part.name, (output,), job, size=samples, of="samples", log=log))
    return PoolReshard(pool, subset, out, shard_size, faces, tuple(units), whole, folder)
