"""The report: what the page tells is what the run left, and nothing on it does harm."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ecodatum.cli.report import report
from ecodatum.errors import ConfigError, RunError
from ecodatum.pipeline.curation_jobs import read_lf_summary
from ecodatum.pipeline.graph import Graph
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.subsets import read_subset
from ecodatum.report.leaderboard import leaderboard
from ecodatum.report.page import duration, render, write_report
from tests.report.html_page import Element, parse, table_rows
from tests.report.report_experiment import (
    HOSTILE,
    RECIPE,
    curate,
    finish,
    open_graph,
    score_of,
    unit_of,
    write_report_experiment,
)

FILTERS = ("no_filter", "clip_score", "ensemble", "mean", "broken")


@pytest.fixture(scope="module")
def page(report_html: str) -> Element:
    return parse(report_html)


def section(page: Element, name: str) -> Element:
    return page.one("section", id=name)


def below(page: Element, heading: str, name: str) -> list[Element]:
    """Return what stands between a filter's heading of that text and its next one."""
    children = [child for child in section(page, f"filter-{name}").children if isinstance(child, Element)]
    titles = [child.text if child.tag == "h4" else "" for child in children]
    start = titles.index(heading) + 1
    ends = [i for i, title in enumerate(titles) if title and i >= start]
    return children[start : ends[0] if ends else None]


def gallery(page: Element, heading: str, name: str) -> list[Element]:
    """Return the figures of a filter's gallery."""
    parts = Element("div", {}, list(below(page, heading, name)))
    return list(parts.one("div", class_="gallery").all("figure"))


def test_it_has_landmarks_headings_in_order_and_names_for_all_that_is_drawn(page: Element) -> None:
    assert page.one("html").attributes["lang"] == "en"
    assert [element.tag for element in page.all() if element.tag in {"header", "nav", "main", "footer"}] == [
        "header", "nav", "main", "footer",
    ]  # fmt: skip
    assert next(page.all("a")).attributes["href"] == "#main"
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link.attributes["href"].removeprefix("#") in ids
    for reference in page.all("section"):
        assert reference.attributes["aria-labelledby"] in ids
    assert all(image.attributes["alt"] for image in page.all("img"))
    for drawn in page.all("svg"):
        assert drawn.attributes.get("aria-label") or drawn.attributes.get("aria-hidden") == "true"
    for cell in page.all("th"):
        assert cell.attributes["scope"] in {"col", "row", "rowgroup"}
    assert all(box.attributes["aria-label"] for box in page.all("div", class_="box"))


def test_it_asks_for_nothing_from_anywhere_and_runs_nothing(report_html: str, page: Element) -> None:
    assert not list(page.all("script")) and not list(page.all("iframe")) and not list(page.all("form"))
    for element in page.all():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "data", "action"):
            assert element.attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|url\((?!#)", report_html)
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_captions_and_titles_are_texts_whatever_they_hold(report_html: str, page: Element) -> None:
    assert page.one("h1").text == "A report & its <title>"
    assert page.one("title").text.startswith("A report & its <title>")
    captions = [caption.text for caption in page.all("p", class_="caption")]
    shown = "".join(c if c.isprintable() else " " for c in HOSTILE)
    assert " ".join(shown.split()) in captions
    assert not any(ord(character) < 32 and character not in "\n\t" for character in report_html)
    assert "\u202e" not in report_html
    assert "Colours & <shapes> acc1" in [row[0] for row in table_rows(section(page, "tasks").one("table"))]
    assert any("CLIP score $0.30$" in text.text for text in section(page, "results").one("svg").all("text"))


def test_long_captions_are_cut(page: Element) -> None:
    longest = max((caption.text for caption in page.all("p", class_="caption")), key=len)
    assert longest == "x" * 120 + "…"


def test_the_leaderboard_is_the_experiments(reported: Graph, page: Element) -> None:
    header, *rows = table_rows(section(page, "results").one("table"))
    board = leaderboard(reported).rows()
    assert header == ["Filter", "Dataset size", "ImageNet", "Average"]
    for (_, wanted), row in zip(board.iterrows(), rows, strict=True):
        assert row[:2] == [wanted[("title", "")], f"{wanted[('size', '')]:,}"]
        for group, cell in zip(("ImageNet", "Average"), row[2:], strict=True):
            assert cell == f"{wanted[(group, 'mean')]:.3f} ± {wanted[(group, 'std')]:.3f}"
    best = [cell.text for cell in section(page, "results").all("td", class_="best")]
    assert best == ["0.305 ± 0.007", "0.355 ± 0.007"]  # clip_score has the longest name


def test_differences_are_to_the_baseline_that_is_asked_for(reported: Graph, page: Element) -> None:
    header, group, first, *_ = table_rows(section(page, "tasks").one("table"))
    assert header[1:] == ["No filtering", "CLIP score $0.30$", "Ensemble <of five>", "Mean", "Broken images"]
    assert group == ["ImageNet"]
    assert first[1] == f"{(score_of('no_filter-seed0', 0) + score_of('no_filter-seed1', 0)) / 2:.3f}"
    assert first[2] == "+0.020 ± 0.000" and first[4] == "−0.100 ± 0.000"
    other = parse(render(reported, baseline="clip_score"))
    assert table_rows(section(other, "tasks").one("table"))[2][2] == "−0.020 ± 0.000"


def test_a_baseline_that_is_no_filter_is_refused(reported: Graph) -> None:
    with pytest.raises(ConfigError, match="there are: no_filter, clip_score, ensemble, mean, broken"):
        render(reported, baseline="nonsense")


def test_labelling_functions_are_told_as_the_label_model_has_them(reported: Graph, page: Element) -> None:
    model = next(run.model for run in reported.runs if run.filter.name == "ensemble")
    assert model
    summary = read_lf_summary(model.path)
    table, *_ = section(page, "filter-ensemble").all("table")
    rows = table_rows(table)[1:]
    assert [row[0] for row in rows] == [f["name"] for f in RECIPE["labelling_functions"]]  # type: ignore[index]
    for row, (_, wanted) in zip(rows, summary.iterrows(), strict=True):
        assert float(row[4].split()[0]) == pytest.approx(100 * wanted["coverage"], abs=0.051)
        assert float(row[6].split()[0]) == pytest.approx(100 * wanted["conflicts"], abs=0.051)
        assert float(row[7]) == pytest.approx(wanted["weight"], abs=0.0005)
    doubts = section(page, "filter-ensemble").one("div", class_="doubts").text
    assert "dark never votes" in doubts


def test_thresholds_stand_with_the_shares_that_lie_beyond_them(page: Element) -> None:
    panels = {
        panel.one("h5").text: [item.text for item in panel.one("ul").all("li")]
        for panel in section(page, "filter-ensemble").all("figure", class_="panel")
    }
    scores = np.array([(number * 53 % 101) / 200 for number in range(48)])
    low, high = (scores <= 0.15).mean(), (scores >= 0.25).mean()
    assert panels["metadata.clip_l14_similarity_score"] == [
        f"given: reject ≤ 0.15 {100 * low:.1f} %",
        f"given: select ≥ 0.25 {100 * high:.1f} %",
    ]
    assert panels["language.lang"] == ["language: reject is not en 2.1 %"]
    assert panels["image_quality.dark"][-1] == "no score 4.2 %"
    assert panels["caption.words"] == ["short: reject ≤ 2 4.2 %"]


def test_the_cut_is_drawn_and_told(reported: Graph, page: Element) -> None:
    counts = next(run.subset.read()["counts"] for run in reported.runs if run.filter.name == "ensemble")
    figure = Element("div", {}, list(below(page, "P(SELECT)", "ensemble")))
    assert f"Cut at {counts['cut']['probability']:.4f}" in figure.one("figcaption").text
    assert f"{counts['kept']} are kept" in next(figure.all("svg")).attributes["aria-label"]
    bins = table_rows(figure.one("table"))[1:]
    assert sum(int(row[2]) for row in bins) == counts["candidates"]


@pytest.mark.parametrize("name", FILTERS)
def test_galleries_show_what_is_kept_and_what_is_dropped(reported: Graph, page: Element, name: str) -> None:
    subset = next(run.subset for run in reported.runs if run.filter.name == name)
    kept = set(uid_arrays.to_hex(read_subset(subset.path)).to_pylist())
    for heading, inside in (("Kept", True), ("Dropped", False)):
        count = 48 - len(kept) if heading == "Dropped" else len(kept)
        if not count:
            with pytest.raises(ValueError, match="not in list"):
                below(page, heading, name)
            continue
        figures = gallery(page, heading, name)
        assert len(figures) == min(12, count)
        assert below(page, heading, name)[0].text.startswith(f"{count} sample{'s' if count > 1 else ''}")
        shown = [figure.attributes["data-uid"] for figure in figures]
        assert len(set(shown)) == len(shown) and all((uid in kept) is inside for uid in shown)


def test_samples_come_with_the_votes_of_every_function(page: Element) -> None:
    names = [function["name"] for function in RECIPE["labelling_functions"]]  # type: ignore[index]
    figures = [f for heading in ("Kept", "Dropped") for f in gallery(page, heading, "ensemble")]
    for figure in figures:
        votes = {}
        for item in figure.one("dl").all("div"):
            votes[item.one("dt").text] = item.one("dd").text
        assert 0 <= float(votes.pop("P(SELECT)")) <= 1
        others = int(votes.pop("abstain", "none 0").split()[-1])
        voted = [name for who in votes.values() for name in who.split(", ")]
        assert set(votes) <= {"select", "reject"} and set(voted) <= set(names)
        assert len(voted) + others == len(names)
    german = [f for f in figures if "ein schönes" in f.text]
    assert all("reject" in f.text and "language" in f.text for f in german)


def test_a_rules_score_tells_why_a_sample_was_dropped(page: Element) -> None:
    for heading, word in (("Kept", "passes"), ("Dropped", "fails")):
        for figure in gallery(page, heading, "clip_score"):
            assert re.search(rf"{word} clip_l14_similarity_score [\d.]+$", figure.text)


def test_what_one_filter_keeps_and_another_drops_is_shown_both_ways(reported: Graph, page: Element) -> None:
    subsets = {run.filter.name: set(read_subset(run.subset.path).tolist()) for run in reported.runs}
    found = dict(
        zip(
            (heading.text for heading in section(page, "pairs").all("h3")),
            (count.text for count in section(page, "pairs").all("p", class_="count")),
            strict=True,
        )
    )
    ensemble, clip = subsets["ensemble"], subsets["clip_score"]
    one_way = found["Kept by Ensemble <of five>, dropped by CLIP score $0.30$"]
    other_way = found["Kept by CLIP score $0.30$, dropped by Ensemble <of five>"]
    assert one_way.startswith(f"{len(ensemble - clip)} sample")
    assert other_way.startswith(f"{len(clip - ensemble)} sample")


def test_a_sample_without_an_image_says_why(page: Element) -> None:
    notes = {note.text for figure in gallery(page, "Kept", "broken") for note in figure.all("span")}
    assert notes == {"no image in the pool", "cannot decode: none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM"}


def test_training_curves_are_the_logs(page: Element) -> None:
    losses = table_rows(next(section(page, "training").all("table")))
    assert losses[0] == ["Filter", "Seed 0", "Seed 1"]
    assert losses[1] == ["No filtering", "1.333", "1.333"]
    assert len(losses) == 6


def test_time_is_that_of_the_manifests(reported: Graph, page: Element) -> None:
    rows = {row[0]: row for row in table_rows(section(page, "cost").one("table"))}
    train = [unit for unit in reported.units if unit.stage == "train"]
    seconds = sum(unit.output.read()["seconds"] for unit in train)
    assert rows["train"][1:3] == ["10", duration(seconds)]
    assert rows["train"][4] == "6,400 samples"
    assert rows["reshard"][1] == "0 of 10"


def test_hours_on_gpus_are_told_where_there_are_any(
    reported_file: Path, page: Element, tmp_path: Path
) -> None:
    assert "GPU hours" not in section(page, "cost").text
    graph = open_graph(reported_file, tmp_path / "work", device="cuda")
    finish(graph)
    for run in graph.runs:
        manifest = run.training.read()
        run.training.manifest.write_text(json.dumps({**manifest, "seconds": 360}))
    rows = {row[0]: row for row in table_rows(section(parse(render(graph)), "cost").one("table"))}
    assert rows["Stage"][-1] == "GPU hours" and rows["train"][-1] == "1.00" and rows["score"][-1] == "–"


def test_provenance_names_pool_versions_fingerprints_and_values(reported: Graph, page: Element) -> None:
    told = section(page, "provenance").text
    versions = reported.runs[0].training.read()["versions"]
    assert reported.pool.fingerprint in told
    assert all(f"{library} {version}" in told for library, version in versions.items())
    for run in reported.runs:
        assert all(o.fingerprint in told for o in (run.subset, run.training, run.evaluation))
    recipe = section(page, "filter-clip_score").one("pre").text
    assert "at_least: 0.335" in recipe  # a share of the pool, as calibration has found it
    assert str(reported.work) not in page.text and str(reported.pool.path.parent) not in page.text


def test_the_same_results_give_the_same_bytes_in_any_process(
    reported: Graph, reported_file: Path, report_html: str
) -> None:
    out = reported.folder / "again.html"
    line = [sys.executable, "-m", "ecodatum", "report", str(reported_file), "--work", str(reported.work)]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    line += ["--out", str(out), "--device", "cpu"]
    done = subprocess.run(line, text=True, capture_output=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert out.read_text(encoding="utf-8") == report_html


def test_a_folder_in_the_pages_place_is_refused(reported_file: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        report(str(reported_file), out_file=reported_file.parent)


def test_before_anything_ran_the_page_says_what_is_missing(reported_file: Path, tmp_path: Path) -> None:
    graph = open_graph(reported_file, tmp_path / "work")
    write_report(graph, tmp_path / "new" / "report.html")
    page = parse((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    said = page.one("div", class_="unfinished").text
    assert "0 of 10 runs" in said and "train (10 of 10 units)" in said
    assert "No run is finished yet." in section(page, "results").text
    assert "Not selected yet." in section(page, "filter-ensemble").text
    assert "Its votes are not combined yet." in section(page, "filter-ensemble").text
    assert not list(page.all("section", id="pairs"))


def test_a_half_finished_experiment_shows_what_is_there(reported: Graph, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(reported.work, work)
    some = open_graph(reported.experiment.folder / "reported.yaml", work)
    for run in some.runs:
        if run.seed == 1 or run.filter.name == "broken":
            run.evaluation.manifest.unlink()
    lost = unit_of(some, "vote").outputs[0]
    lost.manifest.unlink()
    page = parse(render(some))
    assert "4 of 10 runs" in page.one("div", class_="unfinished").text
    rows = table_rows(section(page, "results").one("table"))
    assert [row[0] for row in rows[1:]] == [
        "No filtering 1 of 2 seeds", "CLIP score $0.30$ 1 of 2 seeds", "Ensemble <of five> 1 of 2 seeds",
        "Mean 1 of 2 seeds",
    ]  # fmt: skip
    assert "±" not in "".join(cell for row in rows for cell in row)
    assert not list(gallery(page, "Kept", "ensemble")[0].all("dl"))  # without all votes, none are shown


def test_scores_that_were_removed_are_said_to_be_gone(reported: Graph, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(reported.work, work)
    shutil.rmtree(next((work / "scores").glob("metadata@*")))
    page = parse(render(open_graph(reported.experiment.folder / "reported.yaml", work)))
    assert "the scores are no longer there: metadata.clip_l14" in section(page, "filter-clip_score").text


def test_an_experiment_without_an_ensemble_or_images_has_a_page(tmp_path: Path) -> None:
    file = write_report_experiment(tmp_path, shards=False, filters=["no_filter", "clip_score"])
    graph = open_graph(file, tmp_path / "work")
    curate(graph)
    page = parse(render(graph))
    assert not list(page.all("img"))
    figures = gallery(page, "Kept", "clip_score")
    assert len(figures) == 12 and all("no image in the pool" in figure.text for figure in figures)
    assert all("a photo of a" in figure.text or len(figure.text) > 0 for figure in figures)
    assert not list(page.all("section", id="pairs"))


def test_a_damaged_shard_costs_its_images_and_not_the_page(tmp_path: Path) -> None:
    file = write_report_experiment(tmp_path, filters=["no_filter"])
    shard = tmp_path / "pool" / "shards" / "00000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    graph = open_graph(file, tmp_path / "work")
    curate(graph)
    page = parse(render(graph))
    assert len(list(page.all("img"))) == 12  # those of the other shards come first


def test_a_place_that_cannot_be_written_to_is_an_error_that_says_so(reported: Graph, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write here"):
        write_report(reported, tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "< 0.1 s"),
        (0.24, "0.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words
