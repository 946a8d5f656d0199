"""The released EcoDatum's demo gives the same votes, LF summary, weights, probabilities and samples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.curate.histogram import Histogram, lf_summary
from ecodatum.curate.label_model import Fitted, fit
from ecodatum.curate.recipe import load_recipe
from ecodatum.curate.scores import PartScores
from ecodatum.curate.selection import Ranked, find_cut, select, size_to_keep
from ecodatum.curate.voting import load_columns, unpack, vote_patterns
from ecodatum.pool import uids as uid_arrays

RECIPE = load_recipe(str(Path(__file__).with_name("released_demo.yaml")))


@pytest.fixture(scope="module")
def demo(reference: Path) -> Path:
    return reference / "ecodatum_demo"


@pytest.fixture(scope="module")
def expected(demo: Path) -> Any:
    return np.load(demo / "ensemble.npz")


@pytest.fixture(scope="module")
def patterns(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("scores")
    stats = [json.loads(line)["__dj__stats__"] for line in (demo / "demo_ops_results.jsonl").open()]
    scalars = [{k: v[0] if isinstance(v, list) else v for k, v in row.items()} for row in stats]
    found = [json.loads(line) for line in (demo / "demo_ops_gdino_results.jsonl").open()]
    boxes = [row["__dj__stats__"]["grounding_dino_detection"]["scores"] for row in found]
    confident = [sum(score > 0.3 for score in row) for row in boxes]
    icc = [json.loads(line)["score"] for line in (demo / "demo_ops_icc_results.jsonl").open()]
    tables = {
        "stats": pa.Table.from_pylist(scalars),
        "icc": pa.table({"icc_score": icc}),
        "grounding": pa.table({"detections": confident}),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    scores = PartScores(len(stats), {name: folder / f"{name}.parquet" for name in tables})
    return vote_patterns(RECIPE, load_columns(scores, RECIPE.scores()), len(stats))


@pytest.fixture(scope="module")
def fitted(patterns: Any) -> Fitted:
    return fit(Histogram.of(patterns), len(RECIPE.labelling_functions), RECIPE.label_model)


def test_votes_are_the_released_ones(patterns: Any, expected: Any) -> None:
    assert np.array_equal(unpack(patterns, 8), expected["L"])


def test_lf_summary_is_snorkels(patterns: Any, demo: Path) -> None:
    wanted = json.loads((demo / "ensemble.json").read_text())["lf_summary"]
    summary = lf_summary(Histogram.of(patterns), [f.name for f in RECIPE.labelling_functions])
    assert summary["polarity"].tolist() == list(wanted["Polarity"].values())
    for ours, theirs in (("coverage", "Coverage"), ("overlaps", "Overlaps"), ("conflicts", "Conflicts")):
        assert summary[ours].to_numpy() == pytest.approx(list(wanted[theirs].values()), abs=1e-9)


def test_weights_and_probabilities_are_snorkels(patterns: Any, fitted: Fitted, expected: Any) -> None:
    place = np.searchsorted(Histogram.of(patterns).patterns, patterns)
    assert fitted.weights == pytest.approx(expected["weights"], abs=1e-6)
    assert fitted.probabilities[place] == pytest.approx(expected["probs"][:, 1], abs=1e-6)


def test_the_same_ten_samples_are_selected(patterns: Any, fitted: Fitted, demo: Path) -> None:
    index = np.arange(len(patterns), dtype=np.uint64)
    uids = uid_arrays.from_words(np.zeros_like(index), index)

    def parts() -> Iterator[Ranked]:
        yield Ranked(uids, patterns, np.zeros(len(patterns), np.float32))

    histogram = Histogram.of(patterns)
    assert RECIPE.keep is not None
    size = size_to_keep(RECIPE.keep, histogram.total)
    cut = find_cut(histogram.patterns, histogram.counts, fitted.probabilities, size, parts)
    chosen = select(cut, parts, file_order=True)["f1"].tolist()
    inputs = [json.loads(line)["images"][0] for line in (demo / "demo_input.jsonl").open()]
    results = [json.loads(line)["images"][0] for line in (demo / "demo_result.jsonl").open()]
    assert sorted(inputs[i] for i in chosen) == sorted(results)
