"""Measures votes, label model and P(SELECT) of each row, here and in the released EcoDatum's code.

Run it as `ECODATUM_HOME=checkout python -m tests.benchmarks.ecodatum_label_model`. Both get the same
scores of the eight released labelling functions. There: its functions through Snorkel's applier, the LF
summary, fit and `predict_proba`, on a frame that is in memory already, so that its slow files don't count.
Here: from the parquet of each part, whose reading is told apart, to a parquet of probabilities. Votes
must be the same, weights and probabilities equal to 1e-6. Then ours alone on more and more rows, to see
the memory. Prints Markdown.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.measuring import Usage, markdown, run

PART_ROWS = 500_000
RECIPE = Path(__file__).parents[1] / "curate" / "released_demo.yaml"
#: Where the released functions look for the columns in their frame, by position (labeling_functions.py).
POSITIONS = {
    "stats.blurry_score": 0,
    "stats.odd_aspect_ratio_score": 4,
    "stats.image_text_similarity": 5,
    "stats.lang": 7,
    "stats.lang_score": 8,
    "stats.hclip_image_text_similarity": 10,
    "stats.vclip_image_text_similarity": 11,
    "grounding.detections": 12,
    "icc.icc_score": 13,
}


def write_scores(folder: Path, parts: int) -> list[Path]:
    """Write the scores of `parts` parts that differ; return a file for each."""
    paths = []
    for number in range(parts):
        chance = np.random.default_rng(number)
        good = chance.random(PART_ROWS) < 0.4  # the functions must agree on something

        def score(low: float, high: float, spread: float) -> Any:
            return np.where(good, high, low) + chance.normal(0, spread, PART_ROWS)  # noqa: B023

        columns = {
            "stats.blurry_score": score(0.35, 0.5, 0.1),
            "stats.odd_aspect_ratio_score": score(0.5, 0.7, 0.15),
            "stats.image_text_similarity": score(0.18, 0.25, 0.03),
            "stats.lang": np.where(chance.random(PART_ROWS) < 0.5 + 0.4 * good, "en", "de"),
            "stats.lang_score": chance.random(PART_ROWS),
            "stats.hclip_image_text_similarity": score(-0.01, 0.02, 0.02),
            "stats.vclip_image_text_similarity": score(-0.01, 0.02, 0.02),
            "grounding.detections": chance.poisson(np.where(good, 4, 2)),
            "icc.icc_score": score(0.01, 0.04, 0.02),
        }
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table(columns), paths[-1], compression="zstd", use_dictionary=["stats.lang"])
    return paths


def theirs(files: list[Path], out: Path) -> dict[str, float]:
    """Vote, fit and predict as the released ensemble.py does; return the CPU seconds of its steps."""
    sys.path.insert(0, os.environ["ECODATUM_HOME"])
    import pandas as pd
    from labeling_functions import (  # type: ignore[import-not-found]
        check_blurry_score,
        check_gdino_v1,
        check_hclip,
        check_icc_score,
        check_image_text_similarity,
        check_lang_and_lang_score,
        check_odd_aspect_ratio_score,
        check_vclip,
    )
    from snorkel.labeling import LFAnalysis, PandasLFApplier
    from snorkel.labeling.model import LabelModel

    table = pa.concat_tables(pq.read_table(file) for file in files)
    frame = pd.DataFrame(0.0, index=range(table.num_rows), columns=range(14))
    for name, position in POSITIONS.items():
        frame[position] = table.column(name).to_pandas()
    frame[12] = [[0.5] * number or [0.0] for number in frame[12]]
    functions = [
        check_blurry_score,
        check_odd_aspect_ratio_score,
        check_image_text_similarity,
        check_lang_and_lang_score,
        check_hclip,
        check_vclip,
        check_icc_score,
        check_gdino_v1,
    ]
    start = time.process_time()
    votes = PandasLFApplier(lfs=functions).apply(df=frame, progress_bar=False)
    voted = time.process_time()
    LFAnalysis(L=votes, lfs=functions).lf_summary()
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(L_train=votes, n_epochs=200, lr=0.01, l2=0.001, log_freq=20, seed=123, progress_bar=False)
    probabilities = model.predict_proba(L=votes)[:, 1]
    ended = time.process_time()
    np.savez(out, votes=votes, probabilities=probabilities, weights=model.get_weights())
    return {"votes": voted - start, "all": ended - start}


def ours(files: list[Path], out: Path, keep: bool) -> dict[str, float]:
    """Vote part by part, fit on the merged histogram, write P(SELECT) part by part; return CPU seconds."""
    from ecodatum.curate.histogram import Histogram, lf_summary
    from ecodatum.curate.label_model import fit
    from ecodatum.curate.recipe import load_recipe
    from ecodatum.curate.voting import unpack, vote_patterns

    import_module("torch")  # the label model does when it fits; there, too, it is not counted as a step
    recipe = load_recipe(str(RECIPE))
    functions = recipe.labelling_functions

    reading = 0.0

    def patterns_of(file: Path) -> npt.NDArray[np.uint64]:
        nonlocal reading
        begin = time.process_time()
        table = pq.read_table(file, columns=list(recipe.scores()))
        columns = {name: table.column(name) for name in recipe.scores()}
        reading += time.process_time() - begin
        return vote_patterns(recipe, columns, table.num_rows)

    start = time.process_time()
    histograms = []
    for number, file in enumerate(files):
        patterns = patterns_of(file)
        histograms.append(Histogram.of(patterns))
        pq.write_table(pa.table({"pattern": patterns}), out / f"votes-{number}.parquet")
    voted = time.process_time()
    merged = Histogram.merged(histograms)
    lf_summary(merged, [function.name for function in functions])
    fitted = fit(merged, len(functions), recipe.label_model)
    by_pattern = np.zeros(3 ** len(functions))
    by_pattern[merged.patterns] = fitted.probabilities
    kept: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    for number in range(len(files)):
        patterns = pq.read_table(out / f"votes-{number}.parquet").column("pattern").to_numpy()
        probabilities = by_pattern[patterns]
        pq.write_table(pa.table({"probability": probabilities}), out / f"probabilities-{number}.parquet")
        if keep:
            kept.append((patterns, probabilities))
    ended = time.process_time()
    if keep:
        votes = unpack(np.concatenate([patterns for patterns, _ in kept]), len(functions))
        found = np.concatenate([probabilities for _, probabilities in kept])
        np.savez(out / "kept.npz", votes=votes, probabilities=found, weights=fitted.weights)
    return {"reading": reading, "votes": voted - start - reading, "all": ended - start - reading}


def measure(side: str, files: list[Path], out: Path) -> tuple[Usage, dict[str, float]]:
    """Run a side in a process of its own."""
    report = out / "steps.json"
    request = json.dumps({"side": side, "files": [str(file) for file in files], "out": str(out)})
    usage = run([sys.executable, "-m", __spec__.name, "--in-process", request])
    return usage, json.loads(report.read_text())


def in_process(request: str) -> None:
    """Do what `measure` asks for."""
    given = json.loads(request)
    out, files = Path(given["out"]), [Path(file) for file in given["files"]]
    if given["side"] == "theirs":
        steps = theirs(files, out / "kept.npz")
    else:
        steps = ours(files, out, keep=given["side"] == "ours, compared")
    (out / "steps.json").write_text(json.dumps(steps))


def largest_difference(mine: Path, other: Path) -> float:
    """Return how far probabilities and weights are apart; raises AssertionError where votes differ."""
    with np.load(mine / "kept.npz") as here, np.load(other / "kept.npz") as there:
        assert np.array_equal(here["votes"], there["votes"])
        return max(float(np.abs(here[k] - there[k]).max()) for k in ("probabilities", "weights"))


def row(name: str, usage: Usage, steps: dict[str, float]) -> list[str]:
    """Format a line of the table."""
    read = f"{steps['reading']:.2f}" if "reading" in steps else "–"
    cells = [read, f"{steps['votes']:.2f}", f"{steps['all']:.2f}", f"{usage.cpu:.1f}", f"{usage.wall:.1f}"]
    return [name, *cells, f"{usage.peak / 1e9:.2f}"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        in_process(given.in_process)
        return
    scratch = Path(tempfile.mkdtemp(prefix="ecodatum-benchmark-"))
    try:
        files = write_scores(scratch, 2)
        folders = {side: scratch / side for side in ("theirs", "ours, compared", "ours")}
        for folder in folders.values():
            folder.mkdir()
        rows = []
        other, their_steps = measure("theirs", files, folders["theirs"])
        rows.append(row("EcoDatum, 1,000,000 rows", other, their_steps))
        measure("ours, compared", files, folders["ours, compared"])
        apart = largest_difference(folders["ours, compared"], folders["theirs"])
        ratio = 0.0
        for count in given.rows:
            parts = count // PART_ROWS
            usage, steps = measure("ours", (files * parts)[:parts], folders["ours"])
            rows.append(row(f"here, {parts * PART_ROWS:,} rows", usage, steps))
            ratio = ratio or their_steps["all"] / steps["all"]
    finally:
        shutil.rmtree(scratch)
    head = ["votes, label model, P(SELECT)", "reading, CPU s", "votes, CPU s", "all steps, CPU s"]
    print(markdown([*head, "whole process, CPU s", "wall s", "peak GB"], rows))
    print(
        f"\nAll steps: {ratio:.0f} times less CPU. Votes equal; probabilities and weights within {apart:.1g}."
    )


if __name__ == "__main__":
    main()
