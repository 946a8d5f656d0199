"""Evaluation sets from a hub on this machine: fetched, resumed, verified."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecodatum.errors import PoolError, RunError
from ecodatum.evaluate.hub_sets import fetch_set, read_record, verify_set
from ecodatum.evaluate.sets import LabelledSet, TableSet
from ecodatum.evaluate.tasks import load_tasks, select
from tests.evaluate.loopback_hub import COMMIT, Hub, serving
from tests.evaluate.tiny_evalsets import write_labelled, write_retrieval

LABELLED, RETRIEVAL = select(load_tasks("datacomp"), ("mnist", "Flickr"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    labelled = write_labelled(tmp_path / "source" / "labelled")
    retrieval = write_retrieval(tmp_path / "source" / "retrieval")
    files = {str(p.relative_to(labelled)): p.read_bytes() for p in labelled.rglob("*") if p.is_file()}
    table = (retrieval / "test-00000-of-00001.parquet").read_bytes()
    repositories = {
        "djghosh/wds_mnist_test": {**files, "README.md": b"# MNIST", ".gitattributes": b""},
        RETRIEVAL.data: {"TEST/train/0000.parquet": b"", "TEST/test/0000.parquet": table},
    }
    with serving(Hub(dict(repositories))) as server:
        yield server


@pytest.fixture
def evalsets(tmp_path: Path) -> Path:
    return tmp_path / "evalsets"


def test_a_labelled_set_is_laid_out_as_it_is_read(hub: Hub, evalsets: Path) -> None:
    record = fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert (record.commit, record.licence) == (COMMIT, "cc0-1.0")
    assert len(list(LabelledSet(evalsets / LABELLED.data).images())) == 24
    assert not (evalsets / LABELLED.data / "README.md").exists()
    assert verify_set(LABELLED, evalsets) == "5 files as on the hub"


def test_a_script_set_is_taken_in_its_converted_form(hub: Hub, evalsets: Path) -> None:
    fetch_set(RETRIEVAL, evalsets, endpoint=hub.address)
    assert any(path.endswith("/revision/refs/convert/parquet") for path in hub.requests)
    rows = list(TableSet(evalsets / RETRIEVAL.data, ("image", "caption")).rows())
    assert len(rows) == 12
    assert verify_set(RETRIEVAL, evalsets) == "1 files as on the hub"


def test_what_is_there_is_not_fetched_again(hub: Hub, evalsets: Path) -> None:
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    hub.requests.clear()
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert hub.requests == []


def test_an_interrupted_file_goes_on_where_it_was(hub: Hub, evalsets: Path) -> None:
    whole = hub.repositories["djghosh/wds_mnist_test"]["test/0.tar"]
    part = evalsets / LABELLED.data / "test" / "0.tar.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(whole[:1000])
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert (part.parent / "0.tar").read_bytes() == whole
    assert not part.exists()


def test_a_part_that_is_not_of_this_file_is_not_taken(hub: Hub, evalsets: Path) -> None:
    part = evalsets / LABELLED.data / "test" / "0.tar.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    with pytest.raises(RunError, match="what came is not the file: its sha256"):
        fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert not (part.parent / "0.tar").exists()
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert verify_set(LABELLED, evalsets)


@pytest.mark.parametrize("name", ["test/1.tar", "classnames.txt"])
def test_a_file_that_changed_is_named_removed_and_fetched_again(hub: Hub, evalsets: Path, name: str) -> None:
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    file = evalsets / LABELLED.data / name
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    with pytest.raises(PoolError, match=rf"{name}: its sha.* it was removed"):
        verify_set(LABELLED, evalsets)
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert verify_set(LABELLED, evalsets) == "5 files as on the hub"


def test_a_cut_file_is_named(hub: Hub, evalsets: Path) -> None:
    fetch_set(LABELLED, evalsets, endpoint=hub.address)
    os.truncate(evalsets / LABELLED.data / "test" / "1.tar", 100)
    with pytest.raises(PoolError, match=r"1\.tar: missing, or cut"):
        verify_set(LABELLED, evalsets)


def test_a_set_that_was_put_there_by_hand_is_looked_at(evalsets: Path) -> None:
    write_labelled(evalsets / LABELLED.data)
    assert "no record" in verify_set(LABELLED, evalsets)
    assert read_record(evalsets / LABELLED.data) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "cannot be fetched"), ({"README.md": b"empty"}, "no test split")],
)
def test_a_repository_without_the_set_is_an_error(
    hub: Hub, evalsets: Path, files: dict[str, bytes], message: str
) -> None:
    hub.repositories = {"djghosh/wds_mnist_test": files} if files else {}
    with pytest.raises(RunError, match=message):
        fetch_set(LABELLED, evalsets, endpoint=hub.address)
    assert not evalsets.exists()


def ecodatum(hub: Hub, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ecodatum", "evalsets", *map(str, arguments)]
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_fetches_the_others_when_one_is_not_to_be_had(hub: Hub, evalsets: Path) -> None:
    fetched = ecodatum(hub, "fetch", "--data", evalsets, "--tasks", "mnist,stl10,Flickr")
    assert fetched.returncode == 1
    assert "1 sets are not fetched" in fetched.stderr
    assert "stl10" in fetched.stderr
    assert ecodatum(hub, "verify", "--data", evalsets, "--tasks", "mnist,Flickr").returncode == 0
    listed = ecodatum(hub, "list", "--data", evalsets, "--tasks", "mnist,stl10").stdout
    assert "cc0-1.0" in listed
    assert "djghosh/wds_stl10_test" in listed
