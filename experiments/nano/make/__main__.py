"""Makes the nano benchmark: the scorer, the pool with its truth, and the evaluation sets.

    python experiments/nano/make --out experiments/nano

Wants the packages of the extra `nano`, and `npm` with a network for what the cache folder lacks.
"""

import argparse
import shutil
from pathlib import Path
from typing import Final

import scorer
from evalsets import write_evalsets
from pack import pack
from pool import PART_ROWS, write_pool, write_truth
from rows import make_rows
from sources import load_concepts

_CONCEPTS: Final = 160


def main() -> None:
    """Read the command line and make everything, in the order in which the steps need one another."""
    parser = argparse.ArgumentParser(prog="make", description="Make the nano benchmark.")
    parser.add_argument("--out", type=Path, required=True, help="folder that has nano-clip.json")
    parser.add_argument("--cache", type=Path, default=Path("runs/nano-sources"), help="for npm packages")
    parser.add_argument("--work", type=Path, default=Path("runs/nano-make"), help="for the unpacked folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-scorer", action="store_true", help="use the scorer.pt that is there")
    options = parser.parse_args()
    out, work = options.out, options.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    concepts = load_concepts(options.cache.resolve(), _CONCEPTS)
    config, weights = out / "nano-clip.json", out / "scorer.pt"
    if not options.keep_scorer:
        scorer.write_vocabulary(out / "bpe.txt.gz")
        scorer.train(concepts, options.cache.resolve(), config, weights, options.seed)
    rows = make_rows(concepts, options.cache.resolve(), sum(PART_ROWS), options.seed)
    embeddings = scorer.embed(rows, config, weights)
    write_pool(work / "pool", rows, embeddings, options.seed)
    write_truth(out, rows)
    write_evalsets(work / "evalsets", concepts, options.cache.resolve(), options.seed)
    pack(work / "pool", out / "pool.tar.xz")
    pack(work / "evalsets", out / "evalsets.tar.xz")


if __name__ == "__main__":
    main()
