"""Measures seconds and peak memory of grouping a pool's hashes within a Hamming distance.

Run it as `python tests/benchmarks/near_duplicates.py [--rows 12800000] [--within 4]`. Three kinds of
hashes: random ones; perceptual hashes as pictures have them, whose bits go together (of smooth random
pictures, a hundredth of the rows, the others with bits flipped); and a pool of which half is plain
pictures. In each, a third are copies of another row with up to `within` bits flipped, all of which must
be found. A run is a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from ecodatum.curate.near_duplicates import group
from ecodatum.operators.perceptual_hash import phashes

Hashes = npt.NDArray[np.uint64]

KINDS = ("random", "pictures", "half plain")


def flipped(hashes: Hashes, bits: int, chance: np.random.Generator) -> Hashes:
    """Flip up to `bits` bits of each hash."""
    for _ in range(bits):
        hashes = hashes ^ (np.uint64(1) << chance.integers(0, 64, len(hashes)).astype(np.uint64))
    return hashes


def originals(kind: str, rows: int, chance: np.random.Generator) -> Hashes:
    """Make the hashes of `rows` pictures."""
    if kind == "random":
        return chance.integers(0, 2**64, rows, np.uint64)
    if kind == "half plain":
        plain = flipped(np.full(rows // 2, 2**63, np.uint64), 1, chance)
        return np.concatenate([plain, chance.integers(0, 2**64, rows - len(plain), np.uint64)])
    blocks = [pictures(4096, chance) for _ in range(max(1, rows // 100 // 4096))]
    few = np.concatenate(blocks)
    return flipped(few[chance.integers(0, len(few), rows)], 16, chance)


def pictures(count: int, chance: np.random.Generator) -> Hashes:
    """Hash smooth random pictures: noise whose power falls with the square of the frequency."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij")) + 1 / 32
    noise = chance.normal(size=(count, *frequency.shape, 2)) @ np.array([1, 1j]) / frequency**2
    image = np.fft.irfft2(noise, (32, 32))
    image -= image.min(axis=(1, 2), keepdims=True)
    return phashes((255 * image / image.max(axis=(1, 2), keepdims=True)).astype(np.uint8))


def measure(kind: str, rows: int, within: int) -> None:
    """Group one made pool in this process, and print what it took as JSON."""
    chance = np.random.default_rng(0)
    hashes = originals(kind, rows - rows // 3, chance)
    source = chance.integers(0, len(hashes), rows // 3)
    hashes = np.concatenate([hashes, flipped(hashes[source], within, chance)])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.monotonic()
    groups = group(hashes, within)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    found = (groups[len(hashes) - len(source) :] == groups[source]).mean()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    largest = int(np.bincount(groups).max())
    print(json.dumps([wall, cpu, after.ru_maxrss / 2**20, int(groups.max()) + 1, largest, float(found)]))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12_800_000)
    parser.add_argument("--within", type=int, default=4)
    parser.add_argument("--kind", choices=KINDS, help="measure this one in the process itself")
    given = parser.parse_args()
    if given.kind:
        measure(given.kind, given.rows, given.within)
        return
    title = f"{given.rows:,} hashes within Hamming distance {given.within}"
    table = Table("hashes", "s", "s of CPU", "GiB at most", "groups", "largest", "copies found", title=title)
    for kind in KINDS:
        command = [sys.executable, __file__, "--rows", str(given.rows), "--within", str(given.within)]
        done = subprocess.run([*command, "--kind", kind], check=True, capture_output=True, text=True)
        wall, cpu, memory, groups, largest, found = json.loads(done.stdout)
        cells = f"{wall:.1f}", f"{cpu:.1f}", f"{memory:.2f}", f"{groups:,}", f"{largest:,}", f"{found:.1%}"
        table.add_row(kind, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
