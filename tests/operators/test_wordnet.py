from pathlib import Path

import pyarrow as pa
import pytest

from ecodatum.errors import AssetError
from ecodatum.operators.operator import MetadataOperator, create
from tests.operators.tiny_samples import batch

INDEX = {
    "noun": "dog n 2 1 @ 2 1 00000011 00000022\nbass n 1 0 1 0 00000022\n",
    "verb": "dog v 1 0 1 1 00000022\nrun v 1 0 1 1 00000011\n",
    "adj": "big a 1 0 1 1 00000011\n",
    "adv": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A WordNet of four lemmas, in which 11 is among the ids and 22 isn't."""
    for part, lines in INDEX.items():
        (tmp_path / f"index.{part}").write_text(f"  1 the licence\n{lines}")
        (tmp_path / f"{part}.exc").write_text("ran run\n" if part == "verb" else "")
    (tmp_path / "ids.txt").write_text("n00000011\n")
    return tmp_path


def named(folder: Path, captions: list[str | None], *, repeat: bool = True) -> list[bool | None]:
    operator = create(
        "wordnet", {"wordnet": str(folder), "ids": str(folder / "ids.txt"), "repeat_suffixes": repeat}
    )
    assert isinstance(operator, MetadataOperator)
    found: list[bool | None] = (
        operator.score(batch(text=pa.array(captions, pa.string()))).values.column(0).to_pylist()
    )
    return found


def test_a_word_counts_by_its_first_synset_whatever_its_part_of_speech(folder: Path) -> None:
    assert named(folder, ["a dog", "bass", "run", "big\u2028bass"]) == [True, False, True, True]


def test_case_suffixes_and_irregular_forms_are_undone(folder: Path) -> None:
    assert named(folder, ["DOGS", "ran", "bigger", "bigest"]) == [True, True, False, True]


def test_a_word_with_punctuation_is_another_word(folder: Path) -> None:
    assert named(folder, ["dog.", "", "   ", "日本 🎉", None]) == [False, False, False, False, None]


def test_suffixes_are_exchanged_again_where_nothing_is_known(folder: Path) -> None:
    assert named(folder, ["dogss"], repeat=True) == [True]
    assert named(folder, ["dogss"], repeat=False) == [False]


def test_a_folder_that_lacks_a_file_is_named(folder: Path) -> None:
    (folder / "verb.exc").unlink()
    with pytest.raises(AssetError, match=r"WordNet 3\.0 lacks verb\.exc\n.*wordnet-base"):
        named(folder, ["dog"])


def test_a_list_that_holds_no_ids_is_refused(folder: Path) -> None:
    (folder / "ids.txt").write_text("dog\n")
    with pytest.raises(AssetError, match="not a list of WordNet ids"):
        named(folder, ["dog"])
