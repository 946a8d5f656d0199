"""A choice of thresholds is measured as the paper's composite metric says, and written as a recipe."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from snorkel.labeling import LFAnalysis
from snorkel.labeling.model import LabelModel

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.knobs import Candidates, find_knobs
from ecodatum.curate.label_model import fit
from ecodatum.curate.recipe import Recipe, Top
from ecodatum.curate.samples import open_sample
from ecodatum.curate.tuning import Alphas, Bench, Labelled
from ecodatum.curate.voting import load_columns, unpack, vote_patterns
from ecodatum.errors import ConfigError
from tests.curate.planted import ROWS, planted_recipe, planted_scores

Bundle = tuple[Bench, Labelled]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe = planted_recipe()
    scores, labelled = planted_scores(tmp_path_factory.mktemp("planted") / "pool")
    sample = open_sample(recipe, scores, ROWS)
    return Bench(
        recipe, sample, find_knobs(recipe, sample, Candidates()), Alphas(1, 0.2, 0.3, 0.4), "half"
    ), labelled


def test_candidates_are_top_values_and_the_recipes_own(bundle: Bundle) -> None:
    bench, _ = bundle
    knobs = {knob.name: knob for knob in bench.knobs}
    boundary = knobs["first.boundary"]
    scores = np.sort(bench.sample.columns["a.score"].to_numpy())[::-1]
    present = scores[~np.isnan(scores)]
    expected = [float(f"{np.sort(present)[::-1][int(ROWS * share)]:.7g}") for share in Candidates().top]
    assert sorted([1.6, *expected]) == list(boundary.numbers)
    assert boundary.values[boundary.start] == 1.6
    assert Top(top=0.05) in knobs["second.select.0.at_least"].values  # a share stays a share
    rejected = [
        np.mean(bench.sample.columns["c.score"].to_numpy() <= n)
        for n in knobs["third.reject.0.at_most"].numbers
    ]
    rejected.pop(knobs["third.reject.0.at_most"].start)
    assert rejected == pytest.approx(Candidates().tails, abs=2 / ROWS)
    assert all(list(knob.numbers) == sorted(knob.numbers) for knob in bench.knobs)


def test_measure_is_snorkels_model_and_equation_3(bundle: Bundle) -> None:
    bench, labelled = bundle
    rng = np.random.default_rng(3)
    choice = bench.canonical(tuple(int(rng.integers(len(knob.values))) for knob in bench.knobs))
    fixed = _numbered(bench, choice)
    votes = unpack(vote_patterns(fixed, bench.sample.columns, ROWS), 3).astype(np.int64)
    tiny = unpack(vote_patterns(fixed, labelled.columns, 300), 3).astype(np.int64)
    model = LabelModel(cardinality=2, verbose=False)
    settings = bench.recipe.label_model
    model.fit(votes, n_epochs=200, lr=0.01, l2=settings.l2, seed=settings.seed, progress_bar=False)
    analysis = LFAnalysis(votes)
    chosen = model.predict_proba(tiny)[:, 1] > 0.5
    right = (chosen & labelled.good).sum()
    f1 = 2 * right / (chosen.sum() + labelled.good.sum())
    found = bench.measure(choice, labelled)
    assert found.f1 == pytest.approx(f1)
    assert found.coverage == pytest.approx(analysis.label_coverage())
    assert found.overlap == pytest.approx(analysis.label_overlap())
    assert found.conflict == pytest.approx(analysis.label_conflict())
    expected = f1 + 0.2 * found.overlap - 0.3 * found.conflict + 0.4 * found.coverage
    assert found.objective == pytest.approx(expected)


def _numbered(bench: Bench, choice: tuple[int, ...]) -> Recipe:
    """Return the recipe of a choice with every share replaced by its number."""
    document: Any = bench.tuned(choice).model_dump(mode="json", by_alias=True)
    for knob, position in zip(bench.knobs, choice, strict=True):
        place = document["labelling_functions"][knob.function]
        for step in knob.key[:-1]:
            place = place[step]
        place[knob.key[-1]] = knob.numbers[position]
    return Recipe.model_validate(document)


def test_the_start_is_the_recipe_itself(bundle: Bundle) -> None:
    bench, _ = bundle
    assert bench.tuned(bench.start) == bench.recipe


def test_a_tuned_recipe_survives_its_file(bundle: Bundle, tmp_path: Path) -> None:
    bench, _ = bundle
    for choice in list(product(*(range(0, len(k.values), 3) for k in bench.knobs)))[:40]:
        recipe = bench.tuned(choice, name="tuned")
        document = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(document))) == recipe


def test_a_rejecting_bound_stays_below_the_selecting_one(bundle: Bundle) -> None:
    bench, labelled = bundle
    names = [knob.name for knob in bench.knobs]
    low, high = names.index("second.reject.0.at_most"), names.index("second.select.0.at_least")
    choice = list(bench.start)
    choice[low], choice[high] = len(bench.knobs[low].values) - 1, 0
    mended = bench.canonical(tuple(choice))
    assert bench.knobs[low].numbers[mended[low]] <= bench.knobs[high].numbers[mended[high]]
    assert bench.measure(mended, labelled) == bench.measure(tuple(choice), labelled)


def test_rules_decide_who_is_a_candidate_and_who_is_predicted_good(tmp_path: Path) -> None:
    recipe = planted_recipe(rules=[{"score": "c.score", "above": 0.0}])
    scores, labelled = planted_scores(tmp_path / "pool")
    sample = open_sample(recipe, scores, ROWS)
    bench = Bench(recipe, sample, find_knobs(recipe, sample, Candidates()), Alphas())
    above = load_columns(scores, ["c.score"])["c.score"].to_numpy() > 0
    assert np.array_equal(sample.candidates, above)
    most = (labelled.good & above[:300]).sum() / labelled.good.sum()
    assert bench.measure(bench.start, labelled).recall <= most


def test_functions_can_be_chosen_and_an_unknown_one_is_named(bundle: Bundle) -> None:
    bench, _ = bundle
    knobs = find_knobs(bench.recipe, bench.sample, Candidates(), ["third"])
    assert [knob.name for knob in knobs] == ["third.reject.0.at_most"]
    with pytest.raises(ConfigError, match="it has: first, second, third"):
        find_knobs(bench.recipe, bench.sample, Candidates(), ["fourth"])


def test_a_pool_that_fails_every_rule_is_refused(tmp_path: Path) -> None:
    scores, _ = planted_scores(tmp_path / "pool")
    with pytest.raises(ConfigError, match="no sample of the pool passes"):
        open_sample(planted_recipe(rules=[{"score": "c.score", "above": 99.0}]), scores, ROWS)


def test_at_the_cut_exactly_what_the_recipe_keeps_is_predicted_good(tmp_path: Path) -> None:
    recipe = planted_recipe(
        keep={"top": 0.3, "tie_break": "c.score"}, rules=[{"score": "b.score", "above": -1.0}]
    )
    scores, _ = planted_scores(tmp_path / "pool")
    sample = open_sample(recipe, scores, ROWS)
    bench = Bench(recipe, sample, find_knobs(recipe, sample, Candidates()), Alphas(), "cut")
    patterns = vote_patterns(sample.recipe, sample.columns, ROWS)
    histogram = Histogram.of(patterns[sample.candidates])
    fitted = fit(histogram, 3, recipe.label_model)
    probability = fitted.probabilities[
        np.searchsorted(histogram.patterns, patterns) % len(histogram.patterns)
    ]
    ranked = np.lexsort((sample.columns["c.score"].to_numpy(), probability, sample.candidates))[::-1]
    kept = np.zeros(ROWS, bool)
    kept[ranked[: int(0.3 * sample.candidates.sum())]] = True
    found = bench.measure(bench.start, Labelled(sample.columns, kept))
    assert found.f1 == 1.0


def test_a_count_to_keep_is_scaled_to_the_sample(tmp_path: Path) -> None:
    recipe = planted_recipe(keep={"count": 5000, "tie_break": "file_order"})
    scores, _ = planted_scores(tmp_path / "pool")
    assert open_sample(recipe, scores, 10 * ROWS).size_to_keep(ROWS) == 500
