"""The published numbers: what is shipped is whole and true to its sources, and damage is named."""

import csv
from pathlib import Path

import pytest

from ecodatum.content import content_root
from ecodatum.errors import ConfigError
from ecodatum.report.published import SCORES, published_scores, read_published

SHIPPED = content_root() / "results" / "published"
HEADER = (
    "scale,track,filter,title,dataset_size,imagenet,imagenet_shifts,vtab,retrieval,average,source,checked"
)


def test_the_main_table_is_the_papers(reference: Path) -> None:
    frame = read_published().query("file == 'datacomp'")
    shipped = {(row["scale"], row["filter"]): row for row in frame.to_dict("records")}
    with (reference / "published" / "datacomp_table3.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["filter"] != "ecodatum"]
    assert len(rows) == len(shipped) == 25
    for row in rows:
        ours = shipped[row["scale"], row["filter"]]
        theirs = ("imagenet", "imagenet_dist_shifts", "vtab", "retrieval", "average_38")
        assert [ours[score] for score in SCORES] == [float(row[score]) for score in theirs]
        number, unit = float(row["dataset_size"][:-1]), row["dataset_size"][-1]
        assert ours["dataset_size"] == round(number * {"M": 1e6, "B": 1e9}[unit])


def test_ecodatums_tables_are_the_papers(reference: Path) -> None:
    frame = read_published().query("file == 'ecodatum'")
    with (reference / "published" / "ecodatum_tables.csv").open() as file:
        wanted = sorted((row["source"], float(row["average_38"])) for row in csv.DictReader(file))
    ours = sorted(zip(frame["source"], frame["average"], strict=True))
    assert [row for row in ours if row in wanted] == wanted  # ours also repeats EcoDatum in Tables 4, 7, 8


def test_every_row_says_where_it_is_from_and_whether_that_was_read() -> None:
    frame = read_published()
    assert set(frame["checked"]) == {"yes", "secondhand", "no"}
    recalled = frame["source"].str.contains("recalled")
    assert (frame.loc[recalled, "checked"] == "no").all()
    assert (frame.loc[frame["checked"] == "yes", "source"].str.contains("arXiv")).all()
    assert frame.groupby("scale").size().index.tolist() == ["large", "medium", "small", "xlarge"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tiny,filtering,a,A,1,,,,,0.1,s,yes", r"line 2: scale: .*small"),
        ("small,filtering,a,A,1,,,,,18.2,s,yes", r"line 2: average: .*less than or equal to 1"),
        ("small,filtering,a,A,1,,,,,0.1,,yes", r"line 2: source"),
        ("small,filtering,a,A,1,,,,,0.1,s,maybe", r"line 2: checked"),
        ("small,filtering,a,A,1,,,,,,s,yes", "a row without a score"),
        ("small,filtering,a,A,1,,,,,0.1,s,yes,more", "unknown key 'more'"),
        ("small,filtering,a,A,1,,,,,0.1,s", r"line 2: checked"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        read_published(tmp_path)


def test_a_row_that_is_there_twice_is_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"{HEADER}\nsmall,filtering,x,X,1,,,,,0.1,s,yes\n")
    with pytest.raises(ConfigError, match=r"b.csv: x at small is twice from s"):
        read_published(tmp_path)


def test_of_several_sources_the_one_that_was_read_counts(tmp_path: Path) -> None:
    rows = {
        "a": "x,From hearsay,5,,,,,0.1,s1,no",
        "b": "x,Read,6,,,0.3,,0.2,s2,yes",
        "c": "x,Read later,7,0.4,,0.5,0.6,0.7,s3,yes",
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"{HEADER}\nsmall,filtering,{row}\nmedium,byod,{row}\n")
    found = published_scores("small", tmp_path)
    assert dict(zip(found["group"], found["source"], strict=True)) == {
        **{"ImageNet": "s3", "VTAB": "s2", "Retrieval": "s3", "Average": "s2"},
    }
    assert set(found["title"]) == {"Read later"} and set(found["dataset_size"]) == {7}
    assert published_scores("medium", tmp_path).empty and published_scores("debug").empty


def test_no_published_filter_is_named_almost_like_a_recipe() -> None:
    """A row goes by its recipe's name, so that runs of the recipe find it."""
    recipes = {path.stem for path in (content_root() / "baselines").glob("*.yaml")}
    for name in set(read_published()["filter"]) - recipes:
        assert name.replace("_", "") not in {recipe.replace("_", "") for recipe in recipes}, name


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no published tables"):
        read_published(tmp_path)


def test_the_readme_tells_of_every_file() -> None:
    text = (content_root() / "results" / "README.md").read_text()
    assert all(file.name in text for file in SHIPPED.glob("*.csv"))
