"""The tables of an experiment in all five formats: what is in them, and that others can read them."""

import csv
import io
import math
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from ecodatum.errors import RunError
from ecodatum.report.document import FORMATS, Document, leaderboard_document, task_document, write_leaderboard
from ecodatum.report.formats import Table, terminal
from ecodatum.report.leaderboard import leaderboard
from ecodatum.train.scales import FIXED
from tests.report.finished_runs import SCORED, Scores, finished_graph, recipe_filter, subset_filter

NO_FILTER, BASIC, TEXT = (recipe_filter(name) for name in ("no_filter", "basic_filter", "text_based"))
ORACLE = subset_filter("oracle", "Oracle")
OWN = FIXED["small"].model_copy(update={"samples_seen": 1_280_000})
HOSTILE = (
    r"100 % a|b \| \ & $x_1^2$ # {~} <b>*it*</b> `c` [1] **d** " + '"e" -- ∩ ≥ α–β ‘f’ @{} é &amp; 2\n\n## h'
)
#: What is left of it on one line.
SHOWN = " ".join(HOSTILE.split())


def document(
    folder: Path,
    scores: Scores,
    *,
    filters: tuple[object, ...] = (NO_FILTER, BASIC, ORACLE),
    **changes: object,
) -> Document:
    options = {key: changes.pop(key) for key in ("published", "baseline") if key in changes}
    graph = finished_graph(folder, filters, scores, **changes)  # type: ignore[arg-type]
    return leaderboard_document(leaderboard(graph), **options)  # type: ignore[arg-type]


def column(table: Table, name: str) -> list[str]:
    return [row[table.header.index(name)] for row in table.rows]


def notes(table: Table) -> str:
    return "\n".join(table.notes)


# What is in a table


def test_a_scale_of_ones_own_has_no_published_columns(tmp_path: Path) -> None:
    made = document(tmp_path, {"no_filter": {0: 0.1}}, scale=OWN)
    (table,) = made.tables
    assert table.header == (
        *("Filter", "Dataset size", "ImageNet", "ImageNet dist. shifts", "VTAB", "Retrieval", "Average"),
    )
    assert "Scale small is not one of DataComp's" in notes(table)
    assert not any("published" in name for name in made.numbers.columns.tolist())


def test_a_published_filter_has_the_number_the_difference_and_whether_it_is_noise(tmp_path: Path) -> None:
    scores: Scores = {"no_filter": {0: 0.13, 1: 0.14, 2: 0.15}, "basic_filter": {0: 0.13}, "oracle": {0: 0.9}}
    table, beside = document(tmp_path, scores).tables
    assert column(table, "Average") == ["0.140 ± 0.010", "0.130", "0.900"]
    assert column(table, "Published") == ["0.132", "0.142", "–"]
    assert column(table, "Difference") == ["+0.008", "−0.012", "–"]
    assert column(table, "Within noise") == ["yes", "unknown", "–"]
    assert "prediction interval" in notes(table)
    assert len(beside.rows) == 10
    imagenet = ("No filtering", "ImageNet", "0.140 ± 0.010", "0.025", "+0.115", "± 0.050", "no")
    assert beside.rows[0] == (*imagenet, "arXiv 2304.14108, Table 3")


def test_the_caption_says_what_made_the_table(tmp_path: Path) -> None:
    scores: Scores = {"no_filter": {0: 0.13}}
    (caption,) = {table.caption for table in document(tmp_path / "a", scores).tables}
    assert "Experiment chosen, scale small, seeds 0, 1, 2; ecodatum 0.1.0, runs " in caption
    (again,) = {table.caption for table in document(tmp_path / "b", scores).tables}
    assert again == caption
    (other,) = {table.caption for table in document(tmp_path / "c", {"no_filter": {1: 0.13}}).tables}
    assert other != caption


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    table = document(tmp_path, {"no_filter": {0: 0.1, 2: 0.2}, "oracle": {0: 0.3, 1: 0.3, 2: 0.3}}).tables[0]
    assert column(table, "Average") == ["0.150 ± 0.071", "–", "0.300 ± 0.000"]
    assert column(table, "Dataset size") == ["3,500,000", "–", "3,500,000"]
    assert "Not finished: Basic filtering (seeds 0, 1, 2); No filtering (seed 1)." in notes(table)


def test_a_task_without_a_score_takes_its_run_out_of_its_groups_only(tmp_path: Path) -> None:
    lacking: list[float | None] = [0.4] * len(SCORED)
    vtab = next(i for i, task in enumerate(SCORED) if task.group == "vtab")
    lacking[vtab] = math.nan
    scores: Scores = {"no_filter": {0: 0.2, 1: lacking}, "basic_filter": {0: [None] * len(SCORED)}}
    made = document(tmp_path, scores, filters=(NO_FILTER, BASIC))
    table = made.tables[0]
    assert (column(table, "VTAB")[0], column(table, "Retrieval")[0]) == ("0.200", "0.300 ± 0.141")
    assert column(table, "Average") == ["0.200", "–"]
    assert f"No result: No filtering, seed 1: {SCORED[vtab].name}. Left out" in notes(table)
    assert made.numbers.set_index("filter").loc["basic_filter", "Average_within"] is None


def test_damaged_results_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    graph = finished_graph(tmp_path, [NO_FILTER, BASIC], {"no_filter": {0: 0.1}, "basic_filter": {0: 0.2}})
    damaged = graph.runs[1].evaluation.path / "eval_results.jsonl"
    damaged.write_text(damaged.read_text()[:100])
    table = leaderboard_document(leaderboard(graph)).tables[0]
    assert column(table, "Average") == ["0.100", "–"]
    assert "cannot be read: Basic filtering, seed 0" in notes(table)
    (graph.runs[0].evaluation.path / "eval_results.jsonl").write_text("[]\n")
    with pytest.raises(RunError, match=r"no run .* is finished; results that cannot be read: No filtering"):
        leaderboard(graph)


def test_the_best_of_a_column_is_bold_but_never_a_ready_made_subset(tmp_path: Path) -> None:
    scores: Scores = {
        "no_filter": {0: 0.1},
        "basic_filter": {0: 0.3},
        "text_based": {0: 0.3004},
        "oracle": {0: 0.9},
    }
    table = document(tmp_path, scores, filters=(NO_FILTER, BASIC, TEXT, ORACLE)).tables[0]
    assert {row for row, _ in table.best} == {1, 2}  # equal as far as three decimals tell
    assert {name for _, name in table.best} == {2, 3, 4, 5, 6}
    assert "Does not compete, since its subset is ready-made: Oracle." in notes(table)


@pytest.mark.parametrize(
    "scores", [{"no_filter": {0: 0.1}}, {"no_filter": {0: 0.1}, "basic_filter": {0: 0.1}}]
)
def test_nothing_is_bold_where_none_has_won(tmp_path: Path, scores: Scores) -> None:
    assert not document(tmp_path, scores).tables[0].best


def test_published_filters_that_were_not_run_cite_their_sources(tmp_path: Path) -> None:
    made = document(tmp_path, {"no_filter": {0: 0.1}}, published=True)
    table = made.tables[0]
    assert table.rule == 3
    rows = {row[0]: row[1:] for row in table.rows[3:]}
    (title,) = [name for name in rows if name.startswith("EcoDatum [")]
    assert rows[title] == ("3,500,000", "–", "–", "–", "–", "0.182", "–", "–", "–")
    number = title.removeprefix("EcoDatum ")
    assert f"{number} arXiv 2502.08211, Table 1" in notes(table)
    (recalled,) = [row for name, row in rows.items() if name.startswith("Metagradient descent")]
    assert recalled[5] == "0.220‡" and "‡ recalled only, checked nowhere: do not quote." in notes(table)
    assert not any(row >= 3 for row, _ in table.best)
    numbers = made.numbers.set_index("filter")
    assert numbers.loc["ecodatum", "Average_published"] == 0.182 and numbers.loc["ecodatum", "seeds"] == 0
    assert math.isnan(numbers.loc["ecodatum", "Average_mean"])  # type: ignore[arg-type]


def test_a_baseline_adds_the_significance_of_each_difference(tmp_path: Path) -> None:
    scores: Scores = {
        "no_filter": {0: 0.1, 1: 0.11, 2: 0.12},
        "basic_filter": {0: 0.15, 1: 0.16, 2: 0.17},
        "oracle": {0: 0.1},
    }
    made = document(tmp_path, scores, baseline="no_filter", scale=OWN)
    table = made.tables[1]
    assert table.title == "A title: difference to No filtering"
    assert table.rows == (
        ("Basic filtering", "+0.050", "+0.050 to +0.050", "< 0.001", "38", "3"),
        ("Oracle", "0.000", "0.000 to 0.000", "1.000", "38", "1"),
    )
    assert "With one seed only tasks are resampled" in notes(table)
    row = made.numbers.set_index("filter").loc["basic_filter"]
    assert row["versus_no_filter_difference"] == pytest.approx(0.05)
    assert (row["versus_no_filter_tasks"], row["versus_no_filter_seeds"]) == (38, 3)


def test_every_task_has_a_row(tmp_path: Path) -> None:
    rising = [index / 100 for index in range(len(SCORED))]
    scores: Scores = {"no_filter": {0: rising, 1: rising}, "basic_filter": {0: 0.105}, "oracle": {0: 0.9}}
    graph = finished_graph(tmp_path, [NO_FILTER, BASIC, TEXT, ORACLE], scores)
    made = task_document(leaderboard(graph))
    (table,) = made.tables
    assert table.header == ("Task", "Metric", "No filtering", "Basic filtering", "Oracle")
    assert table.rows[1] == (SCORED[1].name, "acc1", "0.010 ± 0.000", "0.105", "0.900")
    assert table.best == {(i, 3 if value < 0.105 else 2) for i, value in enumerate(rising)}
    assert made.numbers["no_filter_mean"].tolist() == rising


# The formats


@pytest.fixture
def hostile(tmp_path: Path) -> Document:
    """A document whose titles hold every sign that a format takes for its own."""
    filters = (recipe_filter("no_filter", title=HOSTILE), recipe_filter("basic_filter", title="Plain"))
    scores: Scores = {"no_filter": {0: 0.13, 1: 0.15}, "basic_filter": {0: 0.1, 1: 0.1}}
    return document(tmp_path, scores, filters=filters, title=HOSTILE, published=True, baseline="basic_filter")


def test_csv_reads_back_to_the_same_numbers(tmp_path: Path, hostile: Document) -> None:
    thirds = [number / 3 for number in range(len(SCORED))]
    scores: Scores = {
        "no_filter": {0: thirds, 1: 0.1, 2: 1 / 7},
        "basic_filter": {0: 0.1},
        "oracle": {1: math.pi},
    }
    for made in (hostile, document(tmp_path / "b", scores, baseline="no_filter", published=True)):
        text = FORMATS["csv"](made)
        back = pd.read_csv(io.StringIO(text), float_precision="round_trip")
        assert back.columns.tolist() == made.numbers.columns.tolist()
        for name in made.numbers.select_dtypes("number"):
            assert back[name].astype(float).equals(made.numbers[name].astype(float)), name
        assert back["title"].tolist() == made.numbers["title"].tolist()
        assert {len(row) for row in csv.reader(io.StringIO(text))} == {len(back.columns)}


def test_the_csv_of_the_tasks_reads_back_to_the_same_numbers(tmp_path: Path) -> None:
    thirds = [number / 3 for number in range(len(SCORED))]
    graph = finished_graph(tmp_path, [NO_FILTER, BASIC], {"no_filter": {0: thirds, 1: 0.1}})
    made = task_document(leaderboard(graph))
    back = pd.read_csv(io.StringIO(FORMATS["csv"](made)), float_precision="round_trip")
    pd.testing.assert_frame_equal(back, made.numbers, check_exact=True)


def markdown_tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the tables that a Markdown parser finds, as the texts of their cells."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    rows: list[list[str]] = []
    for token, inline in pairwise(tokens):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            children = inline.children or []
            assert {child.type for child in children} <= {
                "text",
                "text_special",
                "strong_open",
                "strong_close",
            }
            rows[-1].append("".join(child.content for child in children))
        if inline.type == "table_close":
            yield rows


def test_markdown_renders_to_the_same_cells(hostile: Document) -> None:
    text = FORMATS["markdown"](hostile)
    found = list(markdown_tables(text))
    assert len(found) == len(hostile.tables) == 3
    for table, (header, *rows) in zip(hostile.tables, found, strict=True):
        assert tuple(header) == table.header
        assert [tuple(row) for row in rows] == [tuple(" ".join(c.split()) for c in row) for row in table.rows]
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert page.count("<h1>") == 1 and page.count("<h2>") == 2 and "<em>" not in page and "<b>" not in page
    assert page.count("<strong>") == sum(len(table.best) for table in hostile.tables)
    assert '<td style="text-align:right"><strong>0.140 ± 0.014</strong></td>' in page


class _Reader(HTMLParser):
    """Collects what a page holds: tables by caption, scopes of header cells, and tags left open."""

    _VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.captions: list[str] = []
        self.rows: list[list[list[str]]] = []
        self.scopes: list[str] = []
        self.strong = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._VOID:
            return
        self.open.append(tag)
        if tag == "caption":
            self.captions.append("")
            self.rows.append([])
        elif tag == "tr":
            self.rows[-1].append([])
        elif tag in ("td", "th"):
            self.rows[-1][-1].append("")
            if tag == "th":
                self.scopes.append(dict(attrs).get("scope") or "")
        elif tag == "strong":
            self.strong += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "caption" in self.open:
            self.captions[-1] += data
        elif {"td", "th"} & set(self.open):
            self.rows[-1][-1][-1] += data


def test_html_is_whole_and_its_header_cells_have_scopes(hostile: Document) -> None:
    reader = _Reader()
    reader.feed(FORMATS["html"](hostile))
    assert not reader.open
    assert [caption.startswith(SHOWN) for caption in reader.captions] == [True] * 3
    for table, (header, *rows) in zip(hostile.tables, reader.rows, strict=True):
        assert tuple(header) == table.header
        assert [tuple(row) for row in rows] == [tuple(" ".join(c.split()) for c in row) for row in table.rows]
    assert reader.scopes.count("col") == sum(len(table.header) for table in hostile.tables)
    assert reader.scopes.count("row") == sum(len(table.rows) for table in hostile.tables)
    assert reader.strong == sum(len(table.best) for table in hostile.tables)


def test_text_has_every_cell_on_one_line(hostile: Document) -> None:
    text = FORMATS["terminal"](hostile)
    assert SHOWN in text and "\x1b" not in text
    body = [line for line in text.splitlines() if line.startswith("│")]
    assert len(body) == sum(len(table.rows) for table in hostile.tables)
    assert "│ 0.140 ± 0.014 │" in body[0]


def test_a_narrow_terminal_has_deviations_below_their_means(tmp_path: Path) -> None:
    scores = {name: {seed: 0.1 + seed / 100 for seed in range(3)} for name in ("no_filter", "basic_filter")}
    (table,) = document(tmp_path, scores, scale=OWN).tables
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(*terminal(table, width=80), sep="\n")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(len(line) for line in lines if line.startswith("│")) <= 80
    assert any(line.split().count("±") == 5 for line in lines)
    assert "Retrieval" in "".join(lines)


def test_latex_has_nothing_that_tex_takes_for_its_own(tmp_path: Path) -> None:
    made = document(
        tmp_path, {"no_filter": {0: 0.1}}, filters=(recipe_filter("no_filter", title="a&b%_#${}~^\\"), BASIC)
    )
    text = FORMATS["latex"](made)
    escaped = r"a\&b\%\_\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert f"{escaped} & 3,500,000 & 0.100 &" in text
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(rule) == 2
    assert r"\hline" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
def test_latex_compiles(tmp_path: Path, hostile: Document) -> None:
    (tmp_path / "tables.tex").write_text(FORMATS["latex"](hostile), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        r"\input{tables}See Table~\ref{tab:chosen}.\end{document}"
    )
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
    log = (tmp_path / "paper.log").read_text(errors="replace")
    for complaint in ("undefined", "Overfull", "Missing character", "Float too large"):
        assert complaint not in log


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    scores: Scores = {"no_filter": {0: 0.13, 1: 0.15}, "basic_filter": {0: 0.1, 1: 0.1}}
    first, second = (
        document(tmp_path / folder, scores, published=True, baseline="no_filter") for folder in ("a", "b")
    )
    for write in FORMATS.values():
        assert write(first) == write(second)


def test_the_leaderboard_is_written_as_markdown_and_csv(tmp_path: Path) -> None:
    made = document(tmp_path, {"no_filter": {0: 0.13}})
    files = write_leaderboard(made, tmp_path / "chosen")
    assert [file.name for file in files] == ["leaderboard.md", "leaderboard.csv"]
    assert files[0].read_text().startswith("# A title\n\n| Filter | Dataset size | ImageNet |")
    assert pd.read_csv(files[1])["Average_mean"].dropna().tolist() == [0.13]
