"""Measures resharding here, in DataComp's resharder.py and against `cp` of the same bytes, in one run.

Run it as `python tests/benchmarks/reshard.py [--samples N] [--image-bytes N] [--folder DIR]`; DATACOMP_HOME
names DataComp's checkout (without it, that column is left out). They take turns; the best of a few
rounds counts. Each is a whole command, its start included; `reshard()` is the same work in processes
that have started, which is what counts for pools that take longer than that. The subset is the whole
pool, so that `cp` and the resharders read and write the same bytes, and then a third of it, in no order.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ecodatum.datacomp.scripts import environment
from ecodatum.pool.pool import Part, open_pool
from ecodatum.pool.resharding import reshard
from ecodatum.pool.shards import ShardWriter
from ecodatum.pool.subsets import read_subset, write_subset
from ecodatum.pool.uids import UidArray, from_hex

A_SHARD = 10_000
ROUNDS = 4


def make_pool(folder: Path, samples: int, image_bytes: int) -> UidArray:
    """Write a pool of two parts with images of about that size, and return its uids."""
    chance = np.random.default_rng(0)
    (folder / "metadata").mkdir(parents=True)
    (folder / "shards").mkdir()
    shards = -(-samples // A_SHARD)
    rows: list[list[str]] = [[], []]
    for shard in range(shards):
        count = min(A_SHARD, samples - shard * A_SHARD)
        uids = [chance.bytes(16).hex() for _ in range(count)]
        rows[shard * 2 // shards] += uids
        stem = folder / "shards" / f"{shard:08d}"
        sizes = np.maximum(100, chance.normal(image_bytes, image_bytes / 3, count)).astype(int)
        with stem.with_suffix(".tar").open("wb") as file:
            writer = ShardWriter(file)
            for row, (uid, size) in enumerate(zip(uids, sizes.tolist(), strict=True)):
                about = {"uid": uid, "caption": "c" * 60, "url": "u" * 80, "exif": "{}", "key": f"{row:012d}"}
                text = json.dumps(about, indent=4).encode()
                writer.write(f"{row:012d}", {"jpg": chance.bytes(size), "json": text, "txt": b"c" * 60})
            writer.close()
        stats = {"count": count, "successes": count}
        stem.with_name(f"{stem.name}_stats.json").write_text(json.dumps(stats))
    for part, uids in enumerate(rows):
        pq.write_table(pa.table({"uid": uids}), folder / "metadata" / f"{part:032x}.parquet")
    return from_hex(pa.array(rows[0] + rows[1]))


def seconds(command: list[str], out: Path, variables: dict[str, str] | None = None) -> float:
    """Run a command that writes to `out`, anew, and return its wall time."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=variables)
    return time.monotonic() - start


def started(pool: Path, subset: Path, out: Path, jobs: int) -> float:
    """Reshard in processes that are there already, and return the wall time."""
    shutil.rmtree(out, ignore_errors=True)
    parts = open_pool(pool).parts
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("forkserver")) as processes:
        list(processes.map(time.sleep, [0.5] * jobs))
        list(processes.map(_part, parts, [subset] * jobs, [out.with_name("nothing")] * jobs, [True] * jobs))
        os.sync()
        start = time.monotonic()
        list(processes.map(_part, parts, [subset] * jobs, [out] * jobs, [False] * jobs))
        return time.monotonic() - start


def _part(part: Part, subset: Path, out: Path, warm: bool) -> None:
    if warm:  # what is imported at the first use
        reshard(replace(part, shards=()), read_subset(subset), out / part.name)
    else:
        reshard(part, read_subset(subset), out / part.name)


def commands(pool: Path, subset: Path, out: Path, jobs: int) -> dict[str, Callable[[], float]]:
    """Return what is measured, by name."""
    work = out.with_name("work")
    ours = [sys.executable, "-m", "ecodatum", "reshard", "--pool", str(pool), "--subset", str(subset)]
    ours += ["--out", str(out), "--jobs", str(jobs), "--work", str(work)]
    found = {
        "ecodatum": lambda: seconds(ours, out),
        "reshard()": lambda: started(pool, subset, out, jobs),
        "cp": lambda: seconds(["cp", "-r", str(pool / "shards"), str(out)], out),
    }
    if home := os.environ.get("DATACOMP_HOME"):
        script = [sys.executable, f"{home}/resharder.py", "-i", str(pool / "shards"), "-o", str(out)]
        script += ["-s", str(subset), "-j", str(jobs)]

        def peer() -> float:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            start = time.monotonic()
            subprocess.run(script, check=True, capture_output=True, env=environment(on_cpu=True))
            spent = time.monotonic() - start
            assert json.loads((out / "meta.json").read_text())["worker_success"] == jobs
            return spent

        found["resharder.py"] = peer
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=80_000)
    parser.add_argument("--image-bytes", type=int, default=3000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the pool is made; by default a temporary folder")
    settings = parser.parse_args()
    table = Table(title=f"{settings.samples:,} samples, images of {settings.image_bytes:,} bytes")
    for column in ("kept", "", "seconds", "samples/s", "MB/s", "against ecodatum"):
        table.add_column(column)
    with tempfile.TemporaryDirectory(dir=settings.folder) as made:
        pool, subset, out = Path(made, "pool"), Path(made, "subset.npy"), Path(made, "out")
        uids = make_pool(pool, settings.samples, settings.image_bytes)
        megabytes = sum(tar.stat().st_size for tar in (pool / "shards").glob("*.tar")) / 1e6
        for share in (1.0, 0.3):
            write_subset(subset, uids[np.random.default_rng(1).random(len(uids)) < share])
            runs = commands(pool, subset, out, settings.jobs)
            times = [{name: run() for name, run in runs.items()} for _ in range(ROUNDS)]
            best = {name: min(spent[name] for spent in times) for name in runs}
            for name, spent in best.items():
                table.add_row(
                    f"{share:.0%}",
                    name,
                    f"{spent:.2f}",
                    f"{settings.samples / spent:,.0f}",
                    f"{megabytes / spent:,.0f}",
                    f"{spent / best['ecodatum']:.2f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
