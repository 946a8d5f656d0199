"""Measures DataComp's metadata filters here and in DataComp's own script: whole processes, the same rows.

Run it as

    DATACOMP_HOME=checkout python -m tests.benchmarks.baselines --peer-python PYTHON --assets FOLDER

PYTHON is an interpreter with what the peer imports: torch, pandas, pyarrow, fsspec, tqdm, nltk 3.8.1,
fasttext 0.9.3 and gcld3 (not fasttext-predict, which overwrites fasttext). FOLDER holds what it would
download, see datacomp_baselines.py; what is known of it here is linked into it. Each filter runs here
and there in turn, there with two workers, on synthetic metadata; the subsets must be equal byte for
byte. Prints a Markdown table.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from ecodatum.operators.language import find_model
from ecodatum.operators.wordnet import Wordnet, WordnetParameters
from tests.benchmarks.measuring import Usage, markdown, run
from tests.benchmarks.synthetic_pool import write_pool

#: A name for the row: the recipe here with its changes, and the arguments there.
FILTERS = {
    "no_filter": (["no_filter"], ["--name", "no_filter"]),
    "clip_score": (
        ["clip_score"],
        ["--name", "clip_score", "--arch", "l14", "--fraction", "0.3"],
    ),
    "basic_filter": (["basic_filter"], ["--name", "basic_filter"]),
    "text_based": (["text_based"], ["--name", "text_based"]),
    "laion2b": (["laion2b"], ["--name", "laion2b"]),
}
WORKERS = 2


def ours(recipe: Sequence[str], pool: Path, out: Path, jobs: int) -> Usage:
    """Curate with an empty work folder."""
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        command = [sys.executable, "-m", "ecodatum", "curate", *recipe, "--pool", str(pool)]
        return run([*command, "--out", str(out), "--work", work, "--jobs", str(jobs)])


def theirs(arguments: Sequence[str], pool: Path, out: Path, python: str, assets: Path) -> Usage:
    """Run DataComp's baselines.py."""
    script = Path(__file__).with_name("datacomp_baselines.py")
    places = ["--metadata_dir", str(pool / "metadata"), "--save_path", str(out)]
    command = [python, str(script), *arguments, *places, "--num_workers", str(WORKERS)]
    return run(command, env={"BENCHMARK_ASSETS": str(assets)})


def prepare_assets(folder: Path) -> None:
    """Link the language model and the ids where the peer looks for them; nltk's data must be there."""
    wordnet = Wordnet(WordnetParameters())
    known = {"fasttext": find_model("lid.176.ftz"), "imagenet21k_wordnet_ids": wordnet.assets["ids"][0]}
    for name, path in known.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(path)
    if not (folder / "nltk_data" / "corpora" / "wordnet" / "lexnames").is_file():
        raise SystemExit(f"{folder} has no nltk_data/corpora/wordnet with WordNet 3.0 and nltk's lexnames")


def predict_seconds(pool: Path, rows: int = 200_000) -> float:
    """Return the CPU seconds that the language model's own predict takes a row."""
    import fasttext

    model = fasttext.load_model(str(find_model("lid.176.ftz")))
    file = sorted((pool / "metadata").glob("*.parquet"))[0]
    lines = pq.read_table(file, columns=["text"]).column("text")[:rows].to_pylist()
    start = time.process_time()
    for line in lines:
        model.predict(line)
    return (time.process_time() - start) / len(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=0, help="our processes; 0, as by default, is one")
    parser.add_argument("--only", nargs="*", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "ecodatum-benchmark")
    given = parser.parse_args()
    if not os.environ.get("DATACOMP_HOME"):
        raise SystemExit("set DATACOMP_HOME to a checkout of DataComp")
    prepare_assets(given.assets)
    pool = write_pool(given.scratch / f"pool-{given.rows}", given.rows, WORKERS)
    rows = []
    for name in given.only:
        recipe, arguments = FILTERS[name]
        files = [given.scratch / f"{name}-{side}.npy" for side in ("ours", "theirs")]
        mine = ours(recipe, pool, files[0], given.jobs)
        other = theirs(arguments, pool, files[1], given.peer_python, given.assets)
        equal = files[0].read_bytes() == files[1].read_bytes()
        cells = [f"{u.cpu:.1f} / {u.wall:.1f} / {u.peak / 1e9:.2f}" for u in (other, mine)]
        ratios = [f"{other.cpu / mine.cpu:.1f}", f"{other.wall / mine.wall:.1f}"]
        rows.append([name, *cells, *ratios, "yes" if equal else "NO"])
        print(*rows[-1], flush=True)
    head = ["filter", "peer: CPU s / wall s / GB", "here", "ratio of CPU", "ratio of wall", "equal"]
    told = f"{given.rows:,} rows in {WORKERS} parts; there {WORKERS} workers, here --jobs {given.jobs}"
    print(f"\n{told}\n\n{markdown(head, rows)}")
    print(f"\nThe language model's own predict: {predict_seconds(pool) * given.rows:.1f} CPU s.")
    if given.scratch == parser.get_default("scratch"):
        shutil.rmtree(given.scratch)


if __name__ == "__main__":
    main()
