"""Published numbers: the tables in `results/published/`, read and checked."""

import csv
from pathlib import Path
from typing import Annotated, Final, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ecodatum.content import content_root
from ecodatum.errors import ConfigError
from ecodatum.evaluate.aggregate import GROUPS
from ecodatum.validation import explain

Score = Annotated[float, Field(ge=0, le=1)]


class PublishedRow(BaseModel):
    """One row of a published table; what the source does not give is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: Literal["small", "medium", "large", "xlarge"]
    track: Literal["filtering", "byod"]
    filter: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Annotated[str, Field(min_length=1)]
    dataset_size: Annotated[int, Field(gt=0)] | None
    imagenet: Score | None
    imagenet_shifts: Score | None
    vtab: Score | None
    retrieval: Score | None
    average: Score | None
    source: Annotated[str, Field(min_length=1)]
    checked: Literal["yes", "secondhand", "no"]

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


#: The score columns, under the names that `aggregate` gives the groups.
LABELS: Final = {
    "imagenet": GROUPS["imagenet"],
    "imagenet_shifts": GROUPS["shifts"],
    "vtab": GROUPS["vtab"],
    "retrieval": GROUPS["retrieval"],
    "average": "Average",
}
SCORES: Final = tuple(LABELS)
#: The trust in a row, from the most to the least.
_CHECKED: Final = ("yes", "secondhand", "no")


def read_published(folder: Path | None = None) -> pd.DataFrame:
    """Return the rows of all published tables, in the order of the files' names.

    folder: where the CSV files are; by default `results/published/`.
    Returns the fields of PublishedRow as columns (scores as fractions, sizes in samples; NaN where the
    source gives none), and `file`, the stem of the row's file. Raises ConfigError, naming file and
    line, for a file that is no such table, a row without a score, and one that is there twice.
    """
    folder = folder or content_root() / "results" / "published"
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise ConfigError("no published tables here", where=folder)
    rows = [{**row.model_dump(), "file": file.stem} for file in files for row in _read(file)]
    frame = pd.DataFrame(rows).astype({**dict.fromkeys(SCORES, float), "dataset_size": "Int64"})
    key = ["scale", "track", "filter", "source"]
    twice = frame[frame.duplicated(key)]
    if len(twice):
        first = twice.iloc[0]
        raise ConfigError(
            f"{first['filter']} at {first['scale']} is twice from {first['source']}",
            where=folder / f"{first['file']}.csv",
        )
    return frame


def published_scores(scale: str, folder: Path | None = None) -> pd.DataFrame:
    """Return for each filter and score of a scale's filtering track the number to compare with.

    A row a filter and score: filter, title, dataset_size, group (one of LABELS' values), published (a
    fraction), source, checked. Where several sources give it, one that was read counts before a
    second-hand and a recalled one, then the order of the files (DataComp's main table is first); title
    and size are of the source with the most scores. Empty for a scale without numbers. Raises
    ConfigError, as `read_published` does.
    """
    frame = read_published(folder).query("scale == @scale and track == 'filtering'")
    frame = frame.iloc[frame["checked"].map(_CHECKED.index).argsort(kind="stable")]
    fullest = frame.iloc[frame[list(SCORES)].isna().sum(axis=1).argsort(kind="stable")]
    about = fullest.groupby("filter", sort=False)[["title", "dataset_size"]].first()
    scores = frame.melt(
        id_vars=["filter", "source", "checked"], value_vars=SCORES, var_name="group", value_name="published"
    ).dropna(subset="published")
    scores = scores.drop_duplicates(["filter", "group"])
    scores["group"] = scores["group"].map(LABELS)
    columns = ["filter", "title", "dataset_size", "group", "published", "source", "checked"]
    return scores.join(about, on="filter")[columns].reset_index(drop=True)


def _read(file: Path) -> list[PublishedRow]:
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines, restkey="more")
        return [_row(fields, f"{file}, line {reader.line_num}") for fields in reader]


def _row(fields: dict[str, str], where: str) -> PublishedRow:
    try:
        row = PublishedRow.model_validate(fields)
    except ValidationError as error:
        raise explain(error, where, PublishedRow) from None
    if all(getattr(row, score) is None for score in SCORES):
        raise ConfigError("a row without a score", where=where)
    return row
