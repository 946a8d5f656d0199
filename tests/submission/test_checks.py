"""What `ecodatum submit` refuses, and why: each way of tampering with a run has its own reason."""

import io
import json
import pickle
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.errors import RunError
from ecodatum.pool.shards import ShardWriter, read_shard
from ecodatum.pool.subsets import write_subset
from ecodatum.pool.uids import UID
from ecodatum.submission.checks import CHECKS, check, require
from ecodatum.submission.entry import Entry, entry_of_folders, entry_of_run
from tests.submission.small_scale_run import (
    RUN,
    change_info,
    change_json,
    graph_of,
    info_of,
    make_run,
    param_of,
    save_checkpoint,
    write_experiment,
    write_log,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an experiment, small.yaml, and its run in `work`."""
    folder = tmp_path_factory.mktemp("small")
    make_run(write_experiment(folder), folder / "work")
    return folder


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Entry:
    """Return the entry of a copy of the run, to tamper with."""
    shutil.copytree(made / "work", tmp_path / "work")
    return entry_of_run(graph_of(made / "small.yaml", tmp_path / "work"), RUN)


def test_a_run_as_it_was_made_holds(entry: Entry) -> None:
    checks = check(entry)
    assert [found.name for found in checks] == list(CHECKS)
    assert {found.name: found.problems for found in checks} == dict.fromkeys(CHECKS, ())
    require(checks, entry.name)


def test_each_shard_is_told_of(entry: Entry) -> None:
    told: list[int] = []
    check(entry, told.append)
    assert sum(told) == 4 + 2  # two shards a part of the pool, one a part of the training


def test_a_training_by_itself_holds_too(entry: Entry) -> None:
    alone = entry_of_folders(entry.pool.path, entry.subset, entry.training, entry.evaluation)
    assert not any(found.problems for found in check(alone))


def test_img2datasets_lists_tell_which_samples_have_an_image(entry: Entry, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(entry.pool.path, pool)
    for shard in sorted((pool / "shards").glob("*.tar")):
        uids = [json.loads(sample.members["json"])["uid"] for sample in read_shard(shard)]
        rows = {"uid": [*uids, "0" * 32], "status": ["success"] * len(uids) + ["failed_to_download"]}
        pq.write_table(pa.table(rows), shard.with_suffix(".parquet"))
        shard.write_bytes(b"")  # not read then
    alone = entry_of_folders(pool, entry.subset, entry.training, entry.evaluation)
    assert not any(found.problems for found in check(alone))


@dataclass(frozen=True)
class Tampering:
    """A change to a run, the check that has to find it, and what that has to say."""

    change: Callable[[Entry], Any]
    check: str
    reason: str


def subset_as(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Entry], None]:
    """Return a change of the subset file that keeps it a sorted one."""
    return lambda entry: write_subset(entry.subset, change(np.load(entry.subset)))


def stranger(uids: np.ndarray) -> np.ndarray:
    uids = uids.copy()
    uids[0] = np.array((7, 7), UID)
    return uids


def others(entry: Entry) -> None:
    """Put as many other samples of the pool in the subset's place."""
    mine = {tuple(uid) for uid in np.load(entry.subset).tolist()}
    shards = sorted((entry.pool.path / "shards").glob("*.tar"))
    texts = [json.loads(s.members["json"])["uid"] for shard in shards for s in read_shard(shard)]
    every = [(int(text[:16], 16), int(text[16:], 16)) for text in texts]
    free = [uid for uid in every if uid not in mine]
    write_subset(entry.subset, np.array(free[: len(mine)], UID))


def truncated(entry: Entry) -> None:
    data = entry.checkpoint.read_bytes()
    entry.checkpoint.write_bytes(data[: len(data) // 2])


def flipped(entry: Entry) -> None:
    """Change a weight's byte behind the back of the sums that torch stores."""
    with zipfile.ZipFile(entry.checkpoint) as archive:
        inner = archive.getinfo(next(name for name in archive.namelist() if name.endswith("/data/7")))
    data = bytearray(entry.checkpoint.read_bytes())
    start = data.index(inner.filename.encode()) + len(inner.filename)
    padding = int.from_bytes(data[inner.header_offset + 28 : inner.header_offset + 30], "little")
    data[start + padding] ^= 0xFF
    entry.checkpoint.write_bytes(bytes(data))


def lines(entry: Entry, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    found = [json.loads(line) for line in entry.results.read_text().splitlines()]
    change(found)
    entry.results.write_text("".join(json.dumps(line) + "\n" for line in found))


def imagenet(**metrics: Any) -> Callable[[Entry], None]:
    def change(found: list[dict[str, Any]]) -> None:
        line = next(line for line in found if line["key"] == "imagenet1k")
        line["metrics"] |= metrics

    return lambda entry: lines(entry, change)


def param(key: str, value: object) -> Callable[[Entry], None]:
    return lambda entry: param_of(entry.training, key, value)


def manifest(stage: str, *keys: str, value: object) -> Callable[[Entry], None]:
    def change(entry: Entry) -> None:
        file = next(output.manifest for unit, output in entry.links if unit.stage == stage)
        change_json(file, *keys, value=value)

    return change


def evil_info(entry: Entry) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("code of a file was run",))

    (entry.training / "info.pkl").write_bytes(pickle.dumps({"scale": "small", "scale_config": Evil()}))


def other_sample(entry: Entry) -> None:
    """Put another uid into a sample of a shard that was trained on."""
    shard = next(iter(sorted(Path(entry.shards.split("::")[0]).glob("*.tar"))))
    samples = list(read_shard(shard))
    buffer = io.BytesIO()
    writer = ShardWriter(buffer)
    for number, sample in enumerate(samples):
        members = dict(sample.members)
        if number == 0:
            uid = json.loads(members["json"])["uid"].encode()
            members["json"] = members["json"].replace(uid, b"f" * 32)
        writer.write(sample.key, members)
    writer.close()
    shard.write_bytes(buffer.getvalue())
    assert tarfile.is_tarfile(shard)


def without_a_shard(entry: Entry) -> None:
    for shard in Path(entry.shards.split("::")[0]).glob("*.tar"):
        shard.unlink()


TAMPERINGS = {
    "subset of another dtype": Tampering(
        lambda e: np.save(e.subset, np.load(e.subset)["f1"]), "subset", "holds uint64 .* not .* u8,u8"
    ),
    "subset not sorted": Tampering(
        lambda e: np.save(e.subset, np.load(e.subset)[::-1]), "subset", "is not sorted by uid"
    ),
    "subset no npy": Tampering(lambda e: e.subset.write_text("uids"), "subset", "cannot be read as a subset"),
    "uid not in the pool": Tampering(subset_as(stranger), "subset", "1 of its 25 uids are not in the pool"),
    "uid twice": Tampering(
        subset_as(lambda uids: np.append(uids, uids[:1])), "shards", "1 samples of the subset have an image"
    ),
    "fewer uids": Tampering(
        subset_as(lambda uids: uids[1:]), "subset", "it holds 24 uids, where 25 were selected"
    ),
    "fewer uids, trained on": Tampering(
        subset_as(lambda uids: uids[1:]), "shards", "1 of .* that were trained on are not in the subset"
    ),
    "another subset": Tampering(others, "shards", r"2\d of 2\d samples that were trained on are not in"),
    "another subset of that size": Tampering(others, "provenance", "select .*content: subset@"),
    "another checkpoint": Tampering(
        lambda e: save_checkpoint(e.checkpoint, "ViT-B-32", 5, seed=1),
        "checkpoint",
        "the results are of another checkpoint",
    ),
    "another checkpoint, not the training's": Tampering(
        lambda e: save_checkpoint(e.checkpoint, "ViT-B-32", 5, seed=1),
        "provenance",
        "train .*content: training/checkpoints/epoch_latest.pt",
    ),
    "checkpoint cut off": Tampering(truncated, "checkpoint", "is cut off or damaged"),
    "checkpoint with a changed byte": Tampering(flipped, "checkpoint", "is damaged at .*/data/7"),
    "checkpoint of another model": Tampering(
        lambda e: save_checkpoint(e.checkpoint, "ViT-B-16", 5), "checkpoint", "it is no ViT-B-32: 2 tensors"
    ),
    "checkpoint before the end": Tampering(
        lambda e: save_checkpoint(e.checkpoint, "ViT-B-32", 4), "checkpoint", "of epoch 4, .* ends with 5"
    ),
    "checkpoint of NaN": Tampering(
        lambda e: save_checkpoint(e.checkpoint, "ViT-B-32", 5, value=float("nan")),
        "checkpoint",
        "tensors are not numbers",
    ),
    "another batch": Tampering(param("batch_size", 2048), "scale", "the batch is 2048 samples, .* has 4096"),
    "another learning rate": Tampering(param("lr", 0.001), "scale", "lr is 0.001, .* has 0.0005"),
    "more weight decay": Tampering(param("wd", 0.5), "scale", "wd is 0.5, where the scale has 0.2"),
    "from pretrained weights": Tampering(param("pretrained", "openai"), "scale", "pretrained is openai"),
    "another warm-up": Tampering(
        lambda e: change_json(e.training / "settings.json", "scale", "warmup", value=5),
        "scale",
        "settings.json: warmup is 5, where the scale has 500",
    ),
    "more samples seen": Tampering(
        lambda e: write_log(e.training / "out.log", 4 * 628 * 4096), "scale", "51,445,760 samples seen"
    ),
    "more samples seen, says the manifest": Tampering(
        manifest("train", "counts", "samples_seen", value=25_600_000),
        "scale",
        "the manifest: 25,600,000 samples seen, where the scale has 12,800,000",
    ),
    "info.pkl of another scale": Tampering(
        lambda e: change_info(e.training, **info_of("medium")),
        "scale",
        "settings.json: name is small, where the scale has medium",
    ),
    "info.pkl of a scale that has no leaderboard": Tampering(
        lambda e: change_info(e.training, **info_of("debug")), "scale", "'debug' has no place"
    ),
    "info.pkl of a scale of one's own": Tampering(
        lambda e: change_info(e.training, scale="nano"), "scale", "'nano' is none of DataComp's: not compar"
    ),
    "info.pkl with another batch": Tampering(
        lambda e: change_info(e.training, scale_config={**info_of("small")["scale_config"], "batch_size": 1}),
        "scale",
        "info.pkl: batch_size is 1, where the scale has 4096",
    ),
    "info.pkl with code": Tampering(evil_info, "scale", "it names builtins.print"),
    "a result missing": Tampering(
        lambda e: lines(e, lambda found: found.pop(14)), "results", "1 of 40 tasks have no result: ImageNet-A"
    ),
    "a result twice": Tampering(
        lambda e: lines(e, lambda found: found.append(found[0])), "results", "Caltech-101 has 2 results"
    ),
    "a result of an unknown task": Tampering(
        lambda e: lines(e, lambda found: found[0].update(key="vtab/mine")),
        "results",
        "1 results are of no task of DataComp's: vtab/mine",
    ),
    "a main metric changed": Tampering(
        imagenet(main_metric=0.9), "results", "ImageNet 1k: its main metric is 0.9, where its acc1 is 0"
    ),
    "a result changed": Tampering(
        imagenet(main_metric=0.9, acc1=0.9), "provenance", "evaluate .*content: eval_results.jsonl"
    ),
    "a result of NaN": Tampering(
        imagenet(main_metric=float("nan"), acc1=float("nan")), "results", "is not a number: nan"
    ),
    "a result above one": Tampering(
        imagenet(main_metric=1.2, acc1=1.2), "results", "acc1 is 1.2, which it cannot be"
    ),
    "results cut off": Tampering(
        lambda e: e.results.write_text(e.results.read_text()[:-30]), "results", "line 40: not a result"
    ),
    "results of another checkpoint": Tampering(
        lambda e: change_json(e.evaluation / "eval_info.json", "subject", "checkpoint", value="0" * 16),
        "checkpoint",
        "the results are of another checkpoint: 0000000000000000",
    ),
    "results of another model": Tampering(
        lambda e: change_json(e.evaluation / "eval_info.json", "subject", "model", value="ViT-L-14"),
        "checkpoint",
        "the results are of a ViT-L-14",
    ),
    "manifest with another seed": Tampering(
        manifest("train", "parameters", "seed", value=7),
        "provenance",
        "train .*: parameters: seed is 0, where its manifest has 7",
    ),
    "manifest with another fingerprint": Tampering(
        manifest("train", "fingerprint", value="0" * 16), "provenance", "has the fingerprint 0000000000000000"
    ),
    "manifest with other inputs": Tampering(
        manifest("train", "inputs", value={}),
        "provenance",
        "train .*: inputs: .* where its manifest has abse",
    ),
    "manifest missing": Tampering(
        lambda e: e.links[-1][1].manifest.unlink(), "provenance", "evaluate .*: .* its manifest is missing"
    ),
    "a shard with another sample": Tampering(other_sample, "shards", "1 of .* are not in the subset"),
    "a part's shards missing": Tampering(without_a_shard, "shards", "no shards in this folder"),
    "trained on other shards": Tampering(
        lambda e: change_json(e.training / "settings.json", "data", value="0" * 16),
        "training",
        "the training was on other shards",
    ),
    "trained on more shards": Tampering(
        param("train_data", "/data/{00000000..00000009}.tar"), "training", "10 shards were trained on, .* 2"
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_refused_for_its_reason(name: str, entry: Entry, capfd: Any) -> None:
    tampering = TAMPERINGS[name]
    tampering.change(entry)
    checks = check(entry)
    problems = next(found.problems for found in checks if found.name == tampering.check)
    assert any(re.search(tampering.reason, problem) for problem in problems), (problems, checks)
    with pytest.raises(RunError, match=f"(?s)refused:.*{tampering.check}: "):
        require(checks, entry.name)
    assert "code of a file was run" not in capfd.readouterr().out


def test_a_run_that_is_not_finished_is_an_error(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not finished"):
        entry_of_run(graph_of(made / "small.yaml", tmp_path / "work"), RUN)


def test_a_run_that_there_is_not_is_an_error(made: Path) -> None:
    with pytest.raises(RunError, match=f"no such run\n.*{RUN}"):
        entry_of_run(graph_of(made / "small.yaml", made / "work"), "clip_score-seed7")
