"""`ecodatum table` as it is typed, on an experiment at DataComp's small scale whose runs are given."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ecodatum.cli.app import main
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, build_graph
from tests.conftest import write_pool
from tests.report.finished_runs import DATACOMP, finish

AVERAGES = {"no_filter": 0.13, "basic_filter": 0.15, "mine": 0.17}

#: Types `ecodatum table EXPERIMENT --work WORK` with these options; returns exit status, output, messages.
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Return a graph with three filters by two seeds; of the third filter only seed 0 is finished."""
    folder = tmp_path_factory.mktemp("tabled")
    write_pool(folder / "pool", 4, 1, {})
    for task in DATACOMP:
        (folder / "sets" / task.data).mkdir(parents=True, exist_ok=True)
    document = {
        "name": "tabled",
        "title": "A_title",
        "pool": "pool",
        "filters": ["no_filter", "basic_filter", {"recipe": "clip_score", "name": "mine", "title": "Mine"}],
        "seeds": [0, 1],
        "train": {"scale": "small"},
        "evaluate": {"data": "sets"},
    }
    (folder / "tabled.yaml").write_text(yaml.safe_dump(document))
    graph = build_graph(load_experiment(str(folder / "tabled.yaml")), folder / "work", device="cpu")
    for run in graph.runs:
        if (run.filter.name, run.seed) != ("mine", 1):
            finish(run, AVERAGES[run.filter.name] + 0.001 * run.seed)
    return graph


@pytest.fixture
def typed(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    def table(*options: object) -> tuple[int, str, str]:
        file = graph.experiment.path("tabled.yaml")
        line = ["ecodatum", "table", file, "--work", graph.work, "--device", "cpu", *options]
        monkeypatch.setattr("sys.argv", [str(word) for word in line])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(str(ended.code))
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return table


def test_it_prints_the_leaderboard_and_writes_it(graph: Graph, typed: Typed) -> None:
    status, shown, told = typed()
    assert status == 0
    assert "│ No filtering    │    3,500,000 │ 0.131 ± 0.001 │" in shown
    assert "Not finished: Mine (seed 1)." in shown
    assert "│     0.132 │     −0.002 │          yes │" in shown  # no filtering: published, difference, noise
    assert "│     0.173 │     −0.003 │      unknown │" in shown  # mine does as clip_score_l14_30
    files = [graph.folder / name for name in ("leaderboard.md", "leaderboard.csv")]
    assert all(str(file) in told and file.is_file() for file in files)
    assert files[0].read_text().startswith("# A\\_title\n\n| Filter | Dataset size | ImageNet |")


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("table.tex", (r"\toprule", r"\caption{A\_title. ", r"95 \% interval")),
        ("table.html", ('<th scope="row">No filtering</th>', "<caption>A_title. ")),
        ("table.md", ("| No filtering | −0.020 |", "## A\\_title: difference to Basic filtering")),
        ("table.txt", ("┃ Filter", "95 % interval")),
        ("table.csv", ("filter,title,size,", ",versus_basic_filter_p,")),
    ],
)
def test_a_table_is_written_in_the_format_that_its_name_says(
    tmp_path: Path, typed: Typed, name: str, signs: tuple[str, ...]
) -> None:
    out = tmp_path / "new" / name
    status, shown, told = typed("--compare", "basic_filter", "--out", out)
    assert (status, shown) == (0, "") and told == f"written: {out}\n"
    text = out.read_text()
    assert all(sign in text for sign in signs)


def test_a_format_can_be_named(tmp_path: Path, typed: Typed) -> None:
    status, shown, _ = typed("--format", "csv", "--seeds", "0")
    rows = {row["filter"]: row for row in csv.DictReader(io.StringIO(shown))}
    assert status == 0 and rows["mine"]["seeds"] == "1" and rows["mine"]["Average_std"] == ""
    assert float(rows["mine"]["Average_mean"]) == 0.17
    assert typed("--format", "latex", "--out", tmp_path / "table.inc")[0] == 0
    assert r"\begin{tabular}" in (tmp_path / "table.inc").read_text()


def test_options_leave_the_leaderboard_of_the_work_folder_alone(graph: Graph, typed: Typed) -> None:
    typed()
    before = (graph.folder / "leaderboard.csv").read_bytes()
    for options in (
        ["--per-task"],
        ["--published"],
        ["--compare", "mine"],
        ["--format", "csv", "--seeds", "0"],
    ):
        assert typed(*options)[0] == 0
    assert (graph.folder / "leaderboard.csv").read_bytes() == before


def test_every_task_has_a_row(typed: Typed) -> None:
    _, shown, _ = typed("--per-task", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [row["task"] for row in rows] == [task.key for task in DATACOMP if task.main_metric]
    assert {float(row["mine_mean"]) for row in rows} == {0.17}


def test_published_filters_are_shown_on_request(typed: Typed) -> None:
    assert "Text-based [1]" in typed("--published")[1]
    assert "Text-based" not in typed("--format", "markdown")[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "table.xls"), "--out table.xls: ends in none of .txt, .md, .csv, .tex, .html\n"),
        (("--out", "."), "--out .: ends in none"),
        (("--format", "csv", "--out", "."), "--out .: is a folder"),
        (("--format", "word"), "--format: no such format: 'word'\n  use one of terminal, markdown,"),
        (("--per-task", "--compare", "no_filter"), "--per-task: goes with neither --compare nor --published"),
        (("--compare", "nix"), "no filter is named 'nix'\n  there are: no_filter, basic_filter, mine"),
        (("--seeds", "1", "--compare", "mine"), "--compare: mine has no finished run"),
        (("--seeds", "5"), "no run of this experiment is finished\n  run it: ecodatum run EXPERIMENT"),
        (("--out", "/dev/null/table.md"), "cannot write here"),
    ],
)
def test_what_cannot_be_tabled_is_refused(typed: Typed, options: tuple[str, ...], message: str) -> None:
    status, shown, told = typed(*options)
    assert (status, shown) == (1, "")
    assert message in told
