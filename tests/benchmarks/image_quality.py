"""Measures the CPU time an image takes here and in CleanVision, decoding included, at equal scores.

Run it as `python tests/benchmarks/image_quality.py [FOLDER OF IMAGES]`. The two take turns, image by
image, so that what else the machine does hits both alike; the best of three rounds counts. CleanVision
is called below its tables and progress bars, which would only slow it down.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cleanvision.issue_managers.image_property_issue_manager import (
    ImagePropertyIssueManager,
    compute_scores,
)
from PIL import Image
from rich.console import Console
from rich.table import Table

from ecodatum.operators.image_quality import ImageQuality
from ecodatum.operators.images import decode
from ecodatum.operators.operator import Parameters

SIZES = {(64, 64): 60, (256, 256): 40, (512, 384): 30, (1024, 768): 12, (2000, 1500): 6}
ROUNDS = 3

_OURS = ImageQuality(Parameters())
_THEIRS = ImagePropertyIssueManager()
_ISSUES = [issue for issue in _THEIRS.image_properties if issue != "light"]  # it shares dark's numbers


def ours(path: Path) -> None:
    """Score one file with the operator."""
    image = decode(path.read_bytes())
    assert isinstance(image, Image.Image)
    _OURS.view(image)


def theirs(path: Path) -> None:
    """Compute CleanVision's properties of one file."""
    with Image.open(path) as image:
        compute_scores(0, [image], _ISSUES, _THEIRS.image_properties)  # type: ignore[arg-type]


def cpu_seconds(work: Callable[[Path], None], path: Path) -> float:
    """Return the CPU time of this process."""
    start = time.process_time()
    work(path)
    return time.process_time() - start


def measure(paths: list[Path]) -> tuple[float, float]:
    """Return the milliseconds an image here and there, the best round of each file."""
    times = np.array(
        [[[cpu_seconds(work, path) for work in (ours, theirs)] for path in paths] for _ in range(ROUNDS)]
    )
    mine, other = times.min(axis=0).mean(axis=0) * 1e3
    return float(mine), float(other)


def save_photographs(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Save smooth colour noise, which compresses about as a photograph does."""
    chance = np.random.default_rng(0)
    paths = [folder / f"{size[0]}-{number}.jpg" for number in range(count)]
    for path in paths:
        coarse = chance.integers(0, 256, (size[1] // 16 + 2, size[0] // 16 + 2, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="images to measure besides the synthetic ones")
    folder = parser.parse_args().folder
    table = Table("images", "here, ms", "CleanVision, ms", "ratio", title="CPU time an image")
    with tempfile.TemporaryDirectory() as made:
        sets = {f"{w}×{h}": save_photographs(Path(made), (w, h), n) for (w, h), n in SIZES.items()}
        if folder:
            sets[folder.name] = sorted(folder.glob("*.jpg"))
        for name, paths in sets.items():
            mine, other = measure(paths)
            table.add_row(name, f"{mine:.2f}", f"{other:.2f}", f"{other / mine:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
