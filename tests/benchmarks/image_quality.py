"""Measures the CPU time an image takes here and in CleanVision, at equal scores.

Run it as `python -m tests.benchmarks.image_quality [FOLDER OF IMAGES]`. The two take turns, image by
image, so that what else the machine does hits both alike; the best of three rounds counts. CleanVision is
called below its tables and progress bars; what its `Imagelab` takes as its users call it is told beside
it. Decoding is the same here and there, so that its time is told apart: a pass over a pool decodes an
image once for all operators. Prints Markdown.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cleanvision import Imagelab
from cleanvision.issue_managers.image_property_issue_manager import (
    ImagePropertyIssueManager,
    compute_scores,
)
from PIL import Image

from ecodatum.operators.image_quality import ImageQuality
from ecodatum.operators.images import decode
from ecodatum.operators.operator import Parameters
from tests.benchmarks.measuring import markdown

SIZES = {(64, 64): 60, (256, 256): 40, (512, 384): 30, (1024, 768): 12, (2000, 1500): 6}
ROUNDS = 3
ISSUES = ("blurry", "dark", "light", "low_information", "odd_aspect_ratio", "grayscale", "odd_size")

_OURS = ImageQuality(Parameters())
_THEIRS = ImagePropertyIssueManager()
_PROPERTIES = [issue for issue in _THEIRS.image_properties if issue != "light"]  # it shares dark's numbers


def loaded(path: Path) -> Image.Image:
    """Decode a file."""
    image = decode(path.read_bytes())
    assert isinstance(image, Image.Image)
    return image


def theirs(image: Image.Image) -> None:
    """Compute CleanVision's properties of an image."""
    compute_scores(0, [image], _PROPERTIES, _THEIRS.image_properties)  # type: ignore[arg-type]


def cpu_seconds(work: Callable[..., Any], *given: Any) -> float:
    """Return the CPU time of this process."""
    start = time.process_time()
    work(*given)
    return time.process_time() - start


def measure(paths: list[Path]) -> tuple[float, float, float]:
    """Return the milliseconds an image to decode, to score here and to score there: the best of each file."""
    times = np.array(
        [
            [
                [
                    cpu_seconds(loaded, path),
                    *(cpu_seconds(work, loaded(path)) for work in (_OURS.view, theirs)),
                ]
                for path in paths
            ]
            for _ in range(ROUNDS)
        ]
    )
    decoding, mine, other = times.min(axis=0).mean(axis=0) * 1e3
    return float(decoding), float(mine), float(other)


def imagelab(paths: list[Path]) -> float:
    """Return the milliseconds an image of CleanVision's own interface, in one process."""

    def call() -> None:
        lab = Imagelab(filepaths=[str(path) for path in paths])
        lab.find_issues({issue: {} for issue in ISSUES}, n_jobs=1, verbose=False)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return min(cpu_seconds(call) for _ in range(ROUNDS)) / len(paths) * 1e3


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="images to measure besides the synthetic ones")
    folder = parser.parse_args().folder
    lines = []
    with tempfile.TemporaryDirectory() as made:
        sets = {f"{w} × {h}": save_photographs(Path(made), (w, h), n) for (w, h), n in SIZES.items()}
        if folder:
            sets[folder.name] = sorted(folder.glob("*.jpg"))
        for name, paths in sets.items():
            decoding, mine, other = measure(paths)
            lab = imagelab(paths)
            numbers = [decoding, mine, other, lab]
            ratios = [other / mine, (other + decoding) / (mine + decoding), lab / (mine + decoding)]
            lines.append([name, *(f"{n:.2f}" for n in numbers), *(f"{ratio:.1f}" for ratio in ratios)])
    head = ["CPU ms an image", "decode", "scores here", "scores there", "Imagelab, all"]
    print(markdown([*head, "ratio of scores", "with decoding", "Imagelab : here, all"], lines))


if __name__ == "__main__":
    main()
