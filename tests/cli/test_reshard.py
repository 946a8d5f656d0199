"""`ecodatum reshard`: the whole command, on this machine and in a store, interrupted, and with bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ecodatum.cli.app import app
from ecodatum.errors import ConfigError, EcoDatumError, PoolError, RunError
from ecodatum.pool.location import location
from ecodatum.pool.pool import open_pool
from ecodatum.pool.shards import Sample, read_shard
from ecodatum.pool.subsets import read_subset, write_subset
from ecodatum.pool.uids import UID, from_hex
from ecodatum.train.arguments import input_shards

#: What a subset of all uids writes: 784 images, of which two share a uid, which so is in it twice.
ALL = 786


def reshard(pool: object, subset: object, out: object, work: Path, *more: str) -> None:
    arguments = ["reshard", "--pool", str(pool), "--subset", str(subset), "--out", str(out)]
    app([*arguments, "--work", str(work), "--jobs", "0", *more], standalone_mode=False)


def samples(folder: Path) -> list[Sample]:
    return [sample for tar in sorted(folder.glob("*.tar"), key=str) for sample in read_shard(tar)]


@pytest.fixture
def peers(reference: Path) -> Path:
    return reference / "datacomp"


@pytest.fixture
def store() -> Iterator[str]:
    yield "memory://bucket"
    fsspec.filesystem("memory").store.clear()


def test_the_folder_is_as_datacomps_resharder_leaves_it(peers: Path, tmp_path: Path) -> None:
    reshard(
        peers / "pool", peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w", "--shard-size", "100"
    )
    out = tmp_path / "out"
    listing = json.loads((peers / "reshard_listing.json").read_text())
    assert sorted(f"{s.key}.{e}" for s in samples(out) for e in s.members) == sorted(
        member["name"] for shard in listing.values() for member in shard
    )
    theirs, ours = (
        json.loads((peers / "reshard_meta.json").read_text()),
        json.loads((out / "meta.json").read_text()),
    )
    for count in ("processed_count", "output_count", "blur_count"):
        assert ours[count] == theirs[count]
    same = {"shard_size", "shard_format", "output_shard_format", "shard_stats_format", "apply_blur"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    shards = ours["output_shard_count"]
    wanted = {f"{n:08d}{end}" for n in range(shards) for end in (".tar", "_stats.json")}
    assert {path.name for path in out.iterdir()} == wanted | {"meta.json", "sample_ids.npy"}
    assert (out / "sample_ids.npy").read_bytes() == (peers / "reshard_subset.npy").read_bytes()
    assert input_shards(out)[0] == f"{out}/{{00000000..{shards - 1:08d}}}.tar"
    assert not list((tmp_path / "w" / "reshard").iterdir())


def test_a_store_gives_and_takes_the_same_bytes(peers: Path, tmp_path: Path, store: str) -> None:
    subset = peers / "subsets" / "no_filter.npy"
    reshard(peers / "pool", subset, tmp_path / "out", tmp_path / "w", "--shard-size", "150")
    fsspec.filesystem("memory").put(str(peers / "pool"), "/bucket/pool", recursive=True)
    location(f"{store}/s.npy").write_bytes(subset.read_bytes())
    reshard(f"{store}/pool", f"{store}/s.npy", f"{store}/out", tmp_path / "w", "--shard-size", "150")
    there = location(f"{store}/out")
    names = sorted(path.name for path in there.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in set(names) - {"meta.json"}:
        assert (there / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    ours = json.loads((there / "meta.json").read_text())
    assert ours["output_count"] == ALL and ours["input_dir"] == f"{store}/pool/shards"
    assert not list((tmp_path / "w" / "reshard").iterdir())


def test_the_same_command_again_does_nothing(
    peers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = peers / "pool", peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w"
    reshard(*arguments)
    before = (tmp_path / "out" / "00000000.tar").stat().st_mtime_ns
    reshard(*arguments)
    assert "done already" in capfd.readouterr().out
    assert (tmp_path / "out" / "00000000.tar").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds something else already"):
        reshard(*arguments, "--shard-size", "7")
    (tmp_path / "out" / "00000000.tar").unlink()
    with pytest.raises(PoolError, match=r"00000000.tar: is missing"):
        reshard(*arguments)


def test_a_folder_with_something_in_it_is_left_alone(peers: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        reshard(peers / "pool", peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_damaged_shard_fails_its_part_and_the_rest_is_kept(peers: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(peers / "pool", pool, copy_function=shutil.copyfile)
    tar = pool / "shards" / "00000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:200_000])
    arguments = pool, peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w"
    with pytest.raises(RunError, match=r"1 unit failed[\s\S]*00000000.tar: truncated shard"):
        reshard(*arguments)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".parts"]
    tar.write_bytes(whole)
    reshard(*arguments)
    assert len(samples(tmp_path / "out")) == 241


def test_killed_while_the_shards_are_moved_it_goes_on(
    peers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = peers / "pool", peers / "subsets" / "no_filter.npy", tmp_path / "out", tmp_path / "w"
    moves = iter(range(5))
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if ".parts" in str(self) and self.suffix == ".tar" and next(moves) == 3:
            raise MemoryError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(MemoryError):
        reshard(*arguments, "--shard-size", "100")
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3 and not (tmp_path / "out" / "meta.json").exists()
    monkeypatch.setattr(Path, "rename", rename)
    reshard(*arguments, "--shard-size", "100")
    assert len(samples(tmp_path / "out")) == ALL


def test_killed_by_force_it_goes_on(peers: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ecodatum", "reshard", "--pool", str(peers / "pool"), "--jobs", "0"]
    command += ["--subset", str(peers / "subsets" / "no_filter.npy"), "--out", str(tmp_path / "out")]
    command += ["--work", str(tmp_path / "w"), "--shard-size", "1"]  # slow enough to be caught at it
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(tmp_path.rglob("*.tar"))) < 20:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out" / "meta.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"{ALL} samples" in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert names == [f"{number:08d}.tar" for number in range(ALL)]


def test_an_empty_subset_makes_a_folder_without_shards(peers: Path, tmp_path: Path) -> None:
    write_subset(tmp_path / "none.npy", np.empty(0, UID))
    reshard(peers / "pool", tmp_path / "none.npy", tmp_path / "out", tmp_path / "w")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["meta.json", "sample_ids.npy"]
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["output_shard_count"] == 0


def test_boxes_are_injected_into_the_json_of_samples_with_faces_only(peers: Path, tmp_path: Path) -> None:
    from ecodatum.pool.pool import read_columns

    reshard(
        peers / "pool",
        peers / "subsets" / "no_filter.npy",
        tmp_path / "out",
        tmp_path / "w",
        "--inject-face-boxes",
    )
    pool = open_pool(peers / "pool")
    boxes = {
        row["uid"]: row["face_bboxes"]
        for part in pool.parts
        for batch in read_columns(part, ["uid", "face_bboxes"])
        for row in batch.to_pylist()
    }
    before = {
        json.loads(sample.members["json"])["uid"]: sample.members
        for part in pool.parts
        for shard in part.shards
        for sample in read_shard(shard.path)
    }
    twice = {sample.key[:32] for sample in samples(tmp_path / "out") if sample.key.endswith("-1")}
    found = [sample for sample in samples(tmp_path / "out") if sample.key[:32] not in twice]
    assert sum(bool(boxes[sample.key[:32]]) for sample in found) > 50
    for sample in found:
        own, uid = dict(sample.members), sample.key[:32]
        if boxes[uid]:
            text = json.loads(own.pop("json"))
            assert text == {**json.loads(before[uid]["json"]), "face_bboxes": boxes[uid]}
        assert {**before[uid], **own} == before[uid]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--webp-quality", "50"], "nothing is encoded without --blur-faces"),
        (["--out", "nope://bucket/x"], "unknown kind of location"),
        (["--subset", "nowhere.npy"], "no such subset"),
        (["--pool", "nowhere"], "no pool here"),
        (["--pool", "memory://nowhere"], "no pool here"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    peers: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(EcoDatumError, match=message):
        reshard(peers / "pool", peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w", *more)
    assert not (tmp_path / "out").exists()


def test_a_pool_without_shards_is_refused(peers: Path, tmp_path: Path) -> None:
    shutil.copytree(peers / "pool" / "metadata", tmp_path / "pool" / "metadata")
    with pytest.raises(ConfigError, match="the pool has no shards"):
        reshard(tmp_path / "pool", peers / "reshard_subset.npy", tmp_path / "out", tmp_path / "w")


def test_a_subset_of_uids_that_the_pool_has_not_writes_nothing(peers: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    write_subset(tmp_path / "s.npy", from_hex(pa.array(["f" * 32, "0" * 32])))
    reshard(peers / "pool", tmp_path / "s.npy", tmp_path / "out", tmp_path / "w")
    assert len(read_subset(tmp_path / "out" / "sample_ids.npy")) == 2 and not samples(tmp_path / "out")
