"""Labels files: what is read, what is refused, and what a crash leaves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecodatum.curate.label_file import LabelFile
from ecodatum.curate.labels import first_half, read_labels
from ecodatum.errors import ConfigError
from ecodatum.pool import uids as uid_arrays

UIDS = [f"{number:032x}" for number in (7, 3, 5, 9, 1)]


def write(folder: Path, *lines: str, header: str = "uid,label,source") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_labels_are_sorted_by_uid_and_doubles_count_once(tmp_path: Path) -> None:
    lines = [f"{UIDS[0]},keep,person", f"{UIDS[1]},drop,blurred", f"{UIDS[0]},keep,trusted"]
    labels = read_labels(write(tmp_path, *lines))
    assert uid_arrays.to_hex(labels.uids).to_pylist() == [UIDS[1], UIDS[0]]
    assert labels.good.tolist() == [False, True]


def test_a_folder_stands_for_its_labels_file(tmp_path: Path) -> None:
    write(tmp_path, f"{UIDS[0]},keep,person", f"{UIDS[1]},drop,person")
    assert len(read_labels(tmp_path).uids) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"{UIDS[0]},keep,a", f"{UIDS[1]},maybe,a"], "line 3: a label is keep or drop"),
        ([f"{UIDS[0]},keep,a", "12ab,drop,a"], "not 32 hex digits"),
        ([f"{UIDS[0]},keep,a", f"{UIDS[0]},drop,a"], "two different labels"),
        ([f"{UIDS[0]},keep,a"], "both labels"),
        ([], "both labels"),
    ],
)
def test_what_is_no_label_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_labels(write(tmp_path, *lines))


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such labels file"):
        read_labels(tmp_path / "nowhere.csv")
    with pytest.raises(ConfigError, match="has no column label"):
        read_labels(write(tmp_path, f"{UIDS[0]},keep", header="uid,truth"))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00uid")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read_labels(tmp_path / "bytes.csv")


def test_halves_share_the_good_ones_and_are_seeded(tmp_path: Path) -> None:
    lines = [f"{number:032x},{'keep' if number % 4 else 'drop'},a" for number in range(100)]
    labels = read_labels(write(tmp_path, *lines))
    half = first_half(labels, 3)
    assert labels.good[half].sum() in (37, 38) and half.sum() in (50, 51)
    assert np.array_equal(half, first_half(labels, 3)) and not np.array_equal(half, first_half(labels, 4))


@given(st.lists(st.sampled_from(["keep", "drop", "undo", "reopen"]), max_size=30))
def test_the_file_holds_what_was_judged_and_not_undone(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str]
) -> None:
    path = tmp_path_factory.mktemp("judged") / "labels.csv"
    expected: list[tuple[str, str]] = []
    file = LabelFile(path)
    for number, action in enumerate(actions):
        if action == "reopen":
            file.__exit__()
            file = LabelFile(path)
        elif action == "undo":
            undone = file.undo()
            assert (undone is not None) == bool(expected)
            expected = expected[:-1]
        else:
            file.append(f"{number:032x}", action, "person")
            expected.append((f"{number:032x}", action))
        lines = path.read_text().splitlines()
        assert lines == ["uid,label,source", *(f"{uid},{label},person" for uid, label in expected)]
        assert [(j.uid, j.label) for j in file.judgements] == expected
    file.__exit__()


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, f"{UIDS[0]},keep,person")
    with path.open("a") as file:
        file.write(f"{UIDS[1]},dr")
    with LabelFile(path) as labels:
        assert [j.uid for j in labels.judgements] == [UIDS[0]]
        labels.append(UIDS[2], "drop", "person")
    assert path.read_text().splitlines()[1:] == [f"{UIDS[0]},keep,person", f"{UIDS[2]},drop,person"]


def test_a_judgement_outlives_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from ecodatum.curate.label_file import LabelFile; "
        f"LabelFile(Path(sys.argv[1])).append('{UIDS[0]}', 'keep', 'person'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "labels.csv")], check=False)
    with LabelFile(tmp_path / "labels.csv") as labels:
        assert [(j.uid, j.label) for j in labels.judgements] == [(UIDS[0], "keep")]


def test_two_processes_do_not_write_one_file_and_others_files_are_left_alone(tmp_path: Path) -> None:
    with LabelFile(tmp_path / "labels.csv"), pytest.raises(ConfigError, match="another process"):
        LabelFile(tmp_path / "labels.csv")
    mine = tmp_path / "notes.txt"
    mine.write_text("my notes\n")
    with pytest.raises(ConfigError, match="no labels file"):
        LabelFile(mine)
    assert mine.read_text() == "my notes\n"
