"""What the unit of deduplication does, and how the stages after it learn what is left."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.curate.deduplication import deduplicate
from ecodatum.curate.deduplication_steps import Step
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pipeline.units import Progress


@dataclass(frozen=True)
class Deduplicate:
    """Take a recipe's steps of deduplication over the whole pool."""

    steps: tuple[Step, ...]
    parts: tuple[PartFiles, ...]

    def run(self, outputs: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
        """Write for each part which of its rows survive; the counts tell what each step removed."""
        scratch = outputs[""] / "scratch"
        scratch.mkdir(parents=True)
        survivors, steps = deduplicate(self.steps, self.parts, scratch, progress)
        shutil.rmtree(scratch)
        for part, mask in zip(self.parts, survivors, strict=True):
            path = survivors_path(outputs[""], part)
            pq.write_table(pa.table({"survives": mask}), path, compression="zstd")
        left = sum(int(mask.sum()) for mask in survivors)
        return {"rows": sum(len(mask) for mask in survivors), "survivors": left, "steps": steps}

    def parameters(self) -> dict[str, Any]:
        """Return the steps."""
        return {"steps": [step.model_dump(mode="json") for step in self.steps]}


def survivors_path(folder: Path, part: PartFiles) -> Path:
    """Return where deduplication tells which rows of a part survive."""
    return folder / f"{part.part.name}.parquet"


def deduplicated(parts: tuple[PartFiles, ...], folder: Path) -> tuple[PartFiles, ...]:
    """Return the parts without what the deduplication in `folder` removed."""
    return tuple(replace(part, survivors=survivors_path(folder, part)) for part in parts)
