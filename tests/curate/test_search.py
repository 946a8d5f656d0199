"""The search finds what is best, is repeatable, and its study outlives its workers."""

import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from ecodatum.curate.knobs import Candidates, find_knobs
from ecodatum.curate.samples import open_sample
from ecodatum.curate.search import Plan, Sampler, best, check_plan, count_done, search
from ecodatum.curate.tuning import Alphas, Bench, Labelled
from ecodatum.errors import ConfigError
from tests.curate.planted import ROWS, planted_recipe, planted_scores

FEW = Candidates(top=(0.3, 0.45, 0.6), tails=(0.1, 0.3), margins=(0.0, 0.3))


def make(
    folder: Path, candidates: Candidates = FEW, functions: tuple[str, ...] = ()
) -> tuple[Bench, Labelled]:
    recipe = planted_recipe(label_model={"epochs": 40})
    scores, labelled = planted_scores(folder / "pool")
    sample = open_sample(recipe, scores, ROWS)
    return Bench(
        recipe, sample, find_knobs(recipe, sample, candidates, functions), Alphas(), "half"
    ), labelled


def run(bench: Bench, labelled: Labelled, folder: Path, sampler: Sampler, trials: int, seed: int = 0) -> Plan:
    plan = Plan(sampler, trials, seed)
    folder.mkdir(exist_ok=True)
    search(bench, labelled, folder, plan, told=lambda done: None)
    return plan


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Bench, Labelled]:
    return make(tmp_path)


def test_tuned_beats_a_bad_start(planted: tuple[Bench, Labelled], tmp_path: Path) -> None:
    bench, labelled = planted
    found = best(bench, tmp_path, run(bench, labelled, tmp_path, "tpe", 60))
    start = bench.measure(bench.start, labelled)
    assert found.measure.f1 > start.f1 + 0.1
    assert found.measure == bench.measure(found.choice, labelled)
    assert found.history["objective"].iloc[0] == start.objective  # the first trial is the recipe itself


def test_the_same_seed_finds_the_same_history(planted: tuple[Bench, Labelled], tmp_path: Path) -> None:
    bench, labelled = planted
    first, second, other = (
        best(bench, tmp_path / name, run(bench, labelled, tmp_path / name, "tpe", 30, seed))
        for name, seed in (("first", 4), ("second", 4), ("other", 5))
    )
    assert first.choice == second.choice
    assert first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))
    assert not first.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))


def test_enumeration_finds_what_brute_force_finds(tmp_path: Path) -> None:
    bench, labelled = make(tmp_path, functions=("second", "third"))
    plan = Plan("enumerate", 1, 0)
    combinations = check_plan(plan, bench)
    choices = list(product(*(range(len(knob.values)) for knob in bench.knobs)))
    assert combinations == len(choices)
    search(bench, labelled, tmp_path, plan, told=lambda done: None)
    found = best(bench, tmp_path, plan)
    own = {bench.canonical(choice): None for choice in choices}
    expected = max(bench.measure(choice, labelled).objective for choice in own)
    assert found.measure.objective == expected
    assert len(found.history) == len(own)
    assert count_done(tmp_path) == combinations
    search(bench, labelled, tmp_path, plan, told=lambda done: pytest.fail("all was done"))


def test_too_many_combinations_are_refused(tmp_path: Path) -> None:
    bench, _ = make(tmp_path, Candidates(top=tuple(i / 40 for i in range(1, 40))))
    with pytest.raises(ConfigError, match="too many to enumerate"):
        check_plan(Plan("enumerate", 1, 0), bench)


def test_a_finished_study_is_not_run_again_and_can_be_continued(
    planted: tuple[Bench, Labelled], tmp_path: Path
) -> None:
    bench, labelled = planted
    run(bench, labelled, tmp_path, "tpe", 10)
    plan = Plan("tpe", 10, 0)
    search(bench, labelled, tmp_path, plan, told=lambda done: pytest.fail("all was done"))
    run(bench, labelled, tmp_path, "tpe", 15)
    assert count_done(tmp_path) == 15


def test_a_killed_worker_leaves_a_study_that_goes_on(planted: tuple[Bench, Labelled], tmp_path: Path) -> None:
    bench, labelled = planted
    code = (
        "from pathlib import Path; from tests.curate.test_search import make, run; import sys; "
        "place = Path(sys.argv[1]); run(*make(place / 'its'), place, 'tpe', 100000)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while count_done(tmp_path) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    (tmp_path / "study.log.lock").unlink(missing_ok=True)  # or wait half a minute until it is taken for stale
    done = count_done(tmp_path)
    assert 5 <= done < 100000
    plan = run(bench, labelled, tmp_path, "tpe", done + 5)
    assert count_done(tmp_path) == done + 5
    assert best(bench, tmp_path, plan).measure.objective >= bench.measure(bench.start, labelled).objective
