"""Measures each filter that needs only metadata on a pool of `small`'s size: seconds, memory, and growth.

Run it as `python -m tests.benchmarks.pool_scale`. 12.8 M synthetic rows in 26 parts, as CommonPool's
`small` has them; each filter runs, scores included, as a process of its own on a quarter, on half and on
all of the parts, and a line through the three is drawn on to 1.28 and 12.8 billion rows. The parts are
independent: on a cluster the forecast divides by the number of tasks at a time. Prints Markdown; needs
6 GB of disk.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import Usage, markdown, run
from tests.benchmarks.synthetic_pool import write_pool

FILTERS = ("no_filter", "clip_score", "basic_filter", "text_based")
FORECASTS = (1_280_000_000, 12_800_000_000)


def first_parts(pool: Path, parts: int, folder: Path) -> Path:
    """Return a pool of the first parts of another."""
    (folder / "metadata").mkdir(parents=True)
    for path in sorted((pool / "metadata").glob("*.parquet"))[:parts]:
        (folder / "metadata" / path.name).symlink_to(path)
    return folder


def curate(name: str, pool: Path, scratch: Path, jobs: int) -> Usage:
    """Curate with an empty work folder."""
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        places = ["--pool", str(pool), "--out", f"{work}/subset.npy", "--work", work]
        return run([sys.executable, "-m", "ecodatum", "curate", name, *places, "--jobs", str(jobs)])


def fitted(rows: list[int], seconds: list[float]) -> tuple[float, float, float]:
    """Return slope and intercept of the line through the points, and the share of variance it explains."""
    slope, intercept = np.polyfit(rows, seconds, 1)
    rest = np.var(np.array(seconds) - (slope * np.array(rows) + intercept))
    return float(slope), float(intercept), float(1 - rest / np.var(seconds))


def hours(seconds: float) -> str:
    """Format a duration."""
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_800_000)
    parser.add_argument("--parts", type=int, default=26)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=FILTERS)
    parser.add_argument("--pool", type=Path, help="where to keep the pool for another run")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ecodatum-benchmark-"))
    lines = []
    try:
        pool = write_pool((given.pool or scratch / "pool").resolve(), given.rows, given.parts)
        counts = [given.parts // 4 + 1, given.parts // 2, given.parts]
        rows = [given.rows * parts // given.parts for parts in counts]
        pools = [first_parts(pool, parts, scratch / f"first-{parts}") for parts in counts]
        for name in given.only:
            usages = [curate(name, part, scratch, given.jobs) for part in pools]
            slope, start, explained = fitted(rows, [usage.cpu for usage in usages])
            cells = [f"{u.cpu:.1f} / {u.wall:.1f} / {u.peak / 1e9:.2f}" for u in usages]
            forecasts = [hours(slope * count + start) for count in FORECASTS]
            lines.append([name, *cells, f"{slope * 1e6:.2f}", f"{explained:.4f}", *forecasts])
            print(*lines[-1], flush=True)
    finally:
        shutil.rmtree(scratch)
    head = ["filter", *(f"{count / 1e6:.1f} M rows: CPU s / wall s / GB" for count in rows)]
    forecast = [f"CPU time at {count / 1e9:g} G rows" for count in FORECASTS]
    print(f"\n{given.jobs} processes at a time\n")
    print(markdown([*head, "CPU s a million rows", "R²", *forecast], lines))


if __name__ == "__main__":
    main()
