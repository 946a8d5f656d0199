"""`ecodatum labels` and `ecodatum tune` from the command line, on a pool whose bad rows are planted."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ecodatum.cli.app import app
from ecodatum.curate.recipe import load_recipe
from ecodatum.errors import ConfigError
from ecodatum.pool.subsets import read_subset
from tests.conftest import ROOT, write_pool

#: Good rows have a high similarity and a longer caption; the recipe's thresholds see neither.
RECIPE: dict[str, Any] = {
    "name": "badly_set",
    "title": "Badly set",
    "source": "a test",
    "operators": {"metadata": {}, "caption": {}},
    "labelling_functions": [
        {"name": "l14", "score": "metadata.clip_l14_similarity_score", "boundary": 0.45, "margin": 0.01},
        {"name": "b32", "score": "metadata.clip_b32_similarity_score", "boundary": {"top": 0.05}},
        {"name": "short", "reject": [{"score": "caption.characters", "at_most": 2}]},
    ],
    "label_model": {"epochs": 60},
    "keep": {"top": 0.5, "tie_break": "file_order"},
}

ROWS, PARTS = 60, 2


def is_good(number: int) -> bool:
    return number % 5 < 2


def ecodatum(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ecodatum", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=300, env=environment)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    changes = {
        number: {
            "text": ("a long caption of a good pair" if is_good(number) else "bad one") + f" {number}",
            "clip_l14_similarity_score": (0.3 if is_good(number) else 0.2) + (number * 37 % 11) / 100,
            "clip_b32_similarity_score": (0.3 if is_good(number) else 0.2) + (number * 53 % 13) / 100,
        }
        for number in range(ROWS * PARTS)
    }
    write_pool(folder / "pool", ROWS, PARTS, changes)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    uids = [f"{(number * 0x9E3779B97F4A7C15 + 1) % 2**128:032x}" for number in range(ROWS * PARTS)]
    lines = [f"{uid},{'keep' if is_good(i) else 'drop'},truth" for i, uid in enumerate(uids) if i % 2]
    (folder / "labels.csv").write_text(
        "\n".join(["uid,label,source", *lines, f"{'f' * 32},drop,truth"]) + "\n"
    )
    return folder


def tune(place: Path, out: str, *more: object, work: str = "work") -> subprocess.CompletedProcess[str]:
    return ecodatum(
        "tune", place / "recipe.yaml", "--pool", place / "pool", "--labels", place / "labels.csv",
        "--out", place / out, "--work", place / work, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(place: Path) -> subprocess.CompletedProcess[str]:
    done = tune(place, "tuned.yaml", "--trials", 40)
    assert done.returncode == 0, done.stderr
    return done


def terms(done: subprocess.CompletedProcess[str]) -> dict[str, list[float]]:
    """Return the rows of the printed table: M, F1, F1 held out, and so on."""
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line
    ]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows if row[0] in ("as given", "tuned")}


def test_tuned_is_better_on_both_halves(tuned: subprocess.CompletedProcess[str]) -> None:
    table = terms(tuned)
    assert table["tuned"][0] > table["as given"][0]
    assert table["tuned"][1] > table["as given"][1] + 0.2 and table["tuned"][2] > table["as given"][2] + 0.2
    assert "1 of 61 labelled samples are not in the pool" in tuned.stderr


def test_the_new_recipe_loads_and_runs(place: Path, tuned: subprocess.CompletedProcess[str]) -> None:
    recipe = load_recipe(str(place / "tuned.yaml"))
    assert recipe.name == "tuned" and recipe.title == "Badly set, tuned" and "seed 0" in recipe.source
    done = ecodatum(
        "curate",
        place / "tuned.yaml",
        "--pool",
        place / "pool",
        "--out",
        place / "t.npy",
        "--work",
        place / "work",
    )
    assert done.returncode == 0, done.stderr
    assert len(read_subset(place / "t.npy")) == 60
    assert "Agreement where both vote" in done.stdout and "samples by P(SELECT)" in done.stdout


def test_history_and_plot_lie_beside_it(place: Path, tuned: subprocess.CompletedProcess[str]) -> None:
    history = pd.read_csv(place / "tuned.history.csv")
    assert len(history) == 40 and history["objective"].max() == pytest.approx(
        terms(tuned)["tuned"][0], abs=1e-3
    )
    assert {"f1", "overlap", "conflict", "coverage", "l14.boundary", "l14.margin"} <= set(history.columns)
    assert (place / "tuned.history.svg").read_text().lstrip().startswith("<?xml")


def test_the_same_seed_finds_the_same_recipe(place: Path, tuned: subprocess.CompletedProcess[str]) -> None:
    assert tune(place, "again/tuned.yaml", "--trials", 40, work="elsewhere").returncode == 0
    assert (place / "again/tuned.yaml").read_bytes() == (place / "tuned.yaml").read_bytes()


def test_workers_share_the_study(place: Path, tuned: subprocess.CompletedProcess[str]) -> None:
    done = tune(place, "shared.yaml", "--trials", 48, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert 48 <= len(pd.read_csv(place / "shared.history.csv")) <= 50  # 40 are there; each may end one late
    assert terms(done)["tuned"][0] >= terms(tuned)["tuned"][0]


def test_a_labelled_set_is_scored_like_a_pool(place: Path) -> None:
    made = ecodatum(
        "labels", "synthetic", "--pool", place / "pool", "--out", place / "set", "--count", 40, "--top", 0.45
    )
    assert made.returncode == 0 and "20 trusted, 10 exchanged" in made.stdout, made.stderr
    done = ecodatum(
        "tune", place / "recipe.yaml", "--pool", place / "pool", "--labels", place / "set", "--out",
        place / "by_set.yaml", "--work", place / "work", "--sampler", "enumerate", "--functions", "short",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_recipe(str(place / "by_set.yaml")).labelling_functions[0].boundary == 0.45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "grid"], "use tpe or enumerate"),
        (["--alphas", "1,2"], "needs four numbers"),
        (["--top", "0.2,high"], "not a list of numbers"),
        (["--tails", "0"], "between 0 and 1"),
        (["--functions", "l15"], "it has: l14, b32, short"),
        (
            ["--sampler", "enumerate", "--top", ",".join(str(i / 60) for i in range(1, 60))],
            "too many to enumerate",
        ),
    ],
)
def test_bad_options_are_explained(place: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune_here(place, "recipe.yaml", "labels.csv", *options)
    assert not (place / "bad.yaml").exists()


def tune_here(place: Path, recipe: str, labels: str, *options: str) -> None:
    """Tune in this process."""
    known = [str(place / recipe), "--pool", str(place / "pool"), "--labels", str(place / labels)]
    out = ["--out", str(place / "bad.yaml"), "--work", str(place / "work")]
    app(["tune", *known, *out, *options], standalone_mode=False)


def test_labels_of_another_pool_are_refused(place: Path) -> None:
    lines = [f"{'a' * 31}{digit},{'keep' if digit % 2 else 'drop'},truth" for digit in range(8)]
    (place / "others.csv").write_text("\n".join(["uid,label,source", *lines]) + "\n")
    with pytest.raises(ConfigError, match=r"are they of this pool\?"):
        tune_here(place, "recipe.yaml", "others.csv")


def test_a_recipe_of_rules_alone_has_nothing_to_tune(place: Path) -> None:
    (place / "rules.yaml").write_text((ROOT / "baselines" / "clip_score.yaml").read_text())
    with pytest.raises(ConfigError, match="no labelling functions to tune"):
        tune_here(place, "rules.yaml", "labels.csv")
