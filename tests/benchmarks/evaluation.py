"""Measures evaluation: forty small sets here and by DataComp's evaluate.py, a large set against the model.

Run it as `DATACOMP_HOME=… python -m tests.benchmarks.evaluation`. Small sets: whole processes, ours and
the peer's in turn, on the same sets and model (the nano pool's scorer). Large set: reading, decoding and
encoding photographs, against the model alone on as many batches, in turn and with the same threads.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from ecodatum.content import content_root
from ecodatum.evaluate.encoder import Encoder
from ecodatum.evaluate.sets import LabelledSet, decode_rgb
from ecodatum.operators.clip_models import choose_device, cpu_threads
from ecodatum.pool.shards import ShardWriter
from tests.benchmarks import measuring
from tests.peers.forty_sets import make_forty_sets

NANO = content_root() / "experiments" / "nano"
BATCH = 64


def small_sets(folder: Path, rounds: int) -> list[list[str]]:
    """Return rows of a table: the CPU and wall seconds of the best round, here and there."""
    sets = make_forty_sets(folder / "evalsets", folder / "unpacked")
    given = [
        "--model",
        str(NANO / "nano-clip.json"),
        "--checkpoint",
        str(NANO / "scorer.pt"),
        "--data",
        str(sets),
    ]
    usages: dict[str, list[measuring.Usage]] = {"builtin": [], "datacomp": []}
    for number in range(rounds):
        for engine, taken in usages.items():
            out = str(folder / f"{engine}-{number}")
            command = [sys.executable, "-m", "ecodatum", "evaluate", *given, "--out", out, "--device", "cpu"]
            taken.append(measuring.run([*command, "--engine", engine], env={"OMP_NUM_THREADS": "1"}))
    best = {e: (min(u.cpu for u in taken), min(u.wall for u in taken)) for e, taken in usages.items()}
    rows = [[name, f"{cpu:.1f}", f"{wall:.1f}"] for name, (cpu, wall) in best.items()]
    (cpu, wall), (peer_cpu, peer_wall) = best["builtin"], best["datacomp"]
    return [*rows, ["ratio", f"{peer_cpu / cpu:.1f}", f"{peer_wall / wall:.1f}"]]


def large_set(folder: Path, images: int, device: str, threads: int) -> tuple[float, float]:
    """Return the seconds that a large set takes, and those of the model alone."""
    data = LabelledSet(write_photographs(folder / "large", images))
    network, _, transform = open_clip.create_model_and_transforms("ViT-B-32", device=device)
    network.eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    encoder = Encoder(
        network, transform, tokenizer, device=device, precision="fp32", batch_size=BATCH, workers=None
    )
    batches = [torch.rand(min(BATCH, images - start), 3, 224, 224) for start in range(0, images, BATCH)]

    def alone() -> float:
        start = time.monotonic()
        with torch.inference_mode():
            for batch in batches:
                network.encode_image(batch.to(device)).cpu()
        return time.monotonic() - start

    def whole() -> float:
        start = time.monotonic()
        encoder.images(data.images(), decode_rgb)
        return time.monotonic() - start

    with cpu_threads(threads):
        alone()
        times = [(whole(), alone()) for _ in range(3)]
    return min(t for t, _ in times), min(t for _, t in times)


def write_photographs(folder: Path, images: int) -> Path:
    """Write a labelled set of photograph-like JPEGs, 500 by 375, and return its folder."""
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("one\ntwo\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of {c}\n")
    (folder / "test" / "nshards.txt").write_text("1\n")
    with (folder / "test" / "0.tar").open("wb") as file:
        writer = ShardWriter(file)
        for number, image in enumerate(photographs(images)):
            writer.write(f"s{number:06d}", {"cls": b"0", "jpg": image})
        writer.close()
    return folder


def photographs(count: int) -> Iterator[bytes]:
    """Yield smooth colour noise, which compresses about as a photograph does."""
    chance = np.random.default_rng(0)
    for _ in range(count):
        coarse = chance.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of the small sets")
    parser.add_argument("--images", type=int, default=512, help="of the large set")
    arguments = parser.parse_args()
    device = choose_device("auto")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    with tempfile.TemporaryDirectory() as made:
        whole, alone = large_set(Path(made), arguments.images, device, threads)
        print(
            f"{arguments.images} photographs, ViT-B-32 on {device}, {threads} threads: {whole:.1f} s;"
            f" the model alone {alone:.1f} s; ratio {whole / alone:.2f}\n"
        )
        if "DATACOMP_HOME" in os.environ:
            rows = small_sets(Path(made), arguments.rounds)
            print(measuring.markdown(["forty small sets", "CPU seconds", "wall seconds"], rows))


if __name__ == "__main__":
    main()
