"""Evaluation end to end: results, resumption, and damaged sets and checkpoints."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecodatum.errors import AssetError, RunError
from ecodatum.evaluate.evaluator import evaluate
from ecodatum.evaluate.tasks import Task
from tests.evaluate.tiny_evalsets import Model, make_model, write_labelled, write_retrieval

PLAIN = Task(key="plain", name="Plain", data="wds_plain_test")
FEW = Task(key="few", name="Few", main_metric="mean_per_class_recall", data="wds_few_test")
REGIONS = Task(key="regions", name="Regions", kind="groups", main_metric="acc_wg", data="wds_regions_test")
PAIRS = Task(key="pairs", name="Pairs", kind="retrieval", main_metric="mean_recall@1", data="pairs")
TASKS = (PLAIN, FEW, REGIONS, PAIRS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evalsets")
    write_labelled(root / "wds_plain_test")
    write_labelled(root / "wds_few_test", ("red", "green", "blue"), seed=1)
    write_labelled(root / "wds_regions_test", metadata=[(i % 4 + i % 2, 0) for i in range(24)], seed=2)
    write_retrieval(root / "pairs")
    return root


@pytest.fixture
def evalsets(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "evalsets"))


def run(model: Model, evalsets: Path, out: Path, tasks: tuple[Task, ...] = TASKS) -> list[dict[str, Any]]:
    return evaluate(model.config, model.checkpoint, evalsets, tasks, out, device="cpu", batch_size=5)


def test_results_are_written_as_datacomp_writes_them(model: Model, made: Path, tmp_path: Path) -> None:
    results = run(model, made, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "eval_results.jsonl").read_text().splitlines()]
    assert [(line["key"], line["dataset"]) for line in lines] == [(task.key, task.name) for task in TASKS]
    assert np.isnan(results[2]["metrics"]["acc_region:3"])  # an empty group, a bare NaN in the file
    assert set(lines[0]) == {"key", "dataset", "metrics"}
    plain, few, regions, pairs = (line["metrics"] for line in lines)
    assert list(plain) == ["acc1", "acc5", "mean_per_class_recall", "main_metric"]
    assert plain["main_metric"] == plain["acc1"]
    assert few["acc5"] is None
    assert few["main_metric"] == few["mean_per_class_recall"]
    assert regions["acc_wg"] == min(regions[f"acc_region:{k}"] for k in (0, 2, 4))
    assert sum(regions[f"count_region:{k}"] for k in range(5)) == 24
    assert pairs["mean_recall@1"] == pytest.approx(
        (pairs["image_retrieval_recall@1"] + pairs["text_retrieval_recall@1"]) / 2
    )


def test_the_same_bytes_come_out_each_time(model: Model, made: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        run(model, made, tmp_path / name)
    one, other = ((tmp_path / name / "eval_results.jsonl").read_bytes() for name in ("one", "other"))
    assert one == other


def test_bfloat16_gives_about_the_same_features(model: Model, made: Path, tmp_path: Path) -> None:
    fp32, bf16 = (
        evaluate(
            model.config, model.checkpoint, made, (PLAIN,), tmp_path / name, device="cpu", precision=name
        )
        for name in ("fp32", "bf16")
    )
    assert bf16[0]["metrics"]["acc1"] == pytest.approx(fp32[0]["metrics"]["acc1"], abs=0.25)


def test_results_that_are_there_are_not_computed_again(model: Model, made: Path, tmp_path: Path) -> None:
    computed: list[str] = []

    def note(result: dict[str, Any]) -> None:
        computed.append(result["key"])

    def again(tasks: tuple[Task, ...]) -> None:
        computed.clear()
        evaluate(model.config, model.checkpoint, made, tasks, tmp_path, device="cpu", on_result=note)

    again((FEW, REGIONS))
    again(TASKS)
    assert computed == ["plain", "pairs"]
    again(TASKS)
    assert computed == []
    keys = [json.loads(line)["key"] for line in (tmp_path / "eval_results.jsonl").read_text().splitlines()]
    assert keys == [task.key for task in TASKS]


def test_results_of_another_checkpoint_are_not_taken(model: Model, made: Path, tmp_path: Path) -> None:
    before = run(model, made, tmp_path / "out", (PLAIN,))
    content = torch.load(model.checkpoint, weights_only=True)
    for value in content["state_dict"].values():
        value += torch.linspace(-1, 1, value.numel()).view(value.shape)
    torch.save(content, tmp_path / "other.pt")
    other = Model(model.config, tmp_path / "other.pt")
    after = run(other, made, tmp_path / "out", (PLAIN,))
    assert after == run(other, made, tmp_path / "fresh", (PLAIN,))
    assert after != before


def test_a_set_that_changed_is_evaluated_again(model: Model, evalsets: Path, tmp_path: Path) -> None:
    before = run(model, evalsets, tmp_path / "out", (PLAIN, FEW))
    shutil.rmtree(evalsets / "wds_plain_test")
    write_labelled(evalsets / "wds_plain_test", ("x", "y"), seed=7)
    after = run(model, evalsets, tmp_path / "out", (PLAIN, FEW))
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_results_of_an_unknown_checkpoint_are_not_overwritten(
    model: Model, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "eval_results.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="of which checkpoint"):
        run(model, made, tmp_path)
    assert (tmp_path / "eval_results.jsonl").read_text() == "{}\n"


def truncate_tar(root: Path) -> None:
    tar = root / "wds_plain_test" / "test" / "1.tar"
    os.truncate(tar, tar.stat().st_size - 5000)


def remove_shard(root: Path) -> None:
    (root / "wds_plain_test" / "test" / "1.tar").unlink()


def remove_classnames(root: Path) -> None:
    (root / "wds_plain_test" / "classnames.txt").unlink()


def shorten_classnames(root: Path) -> None:
    (root / "wds_plain_test" / "classnames.txt").write_text("red\ngreen\n")


def spoil_template(root: Path) -> None:
    (root / "wds_plain_test" / "zeroshot_classification_templates.txt").write_text("a {colour}\n")


def spoil_image(root: Path) -> None:
    tar = root / "wds_plain_test" / "test" / "0.tar"
    content = bytearray(tar.read_bytes())
    place = content.index(b"IDAT")
    content[place + 10 : place + 40] = bytes(30)
    tar.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_tar, r"1\.tar: truncated shard|1\.tar: damaged shard"),
        (remove_shard, r"1\.tar: no such shard"),
        (remove_classnames, r"classnames\.txt: cannot be read"),
        (shorten_classnames, "label 2 is not one of 2 classes"),
        (spoil_template, "a template cannot be filled"),
        (spoil_image, "damaged image"),
    ],
)
def test_a_damaged_set_is_named_and_the_other_tasks_finish(
    model: Model, evalsets: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    damage(evalsets)
    with pytest.raises(RunError, match=message) as error:
        run(model, evalsets, tmp_path / "out")
    assert "plain" in str(error.value)
    assert "1 of 4 tasks" in str(error.value)
    lines = (tmp_path / "out" / "eval_results.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["few", "regions", "pairs"]


def test_a_missing_and_a_damaged_parquet_are_named(model: Model, evalsets: Path, tmp_path: Path) -> None:
    path = next((evalsets / "pairs").glob("*.parquet"))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(RunError, match=r"pairs: .*damaged parquet"):
        run(model, evalsets, tmp_path, (PAIRS,))
    path.unlink()
    with pytest.raises(RunError, match=r"no test-\*\.parquet"):
        run(model, evalsets, tmp_path, (PAIRS,))


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_checkpoint_runs_no_code(model: Model, made: Path, tmp_path: Path, zipped: bool) -> None:
    trap, checkpoint = tmp_path / "trap", tmp_path / "epoch_latest.pt"
    if zipped:
        torch.save({"state_dict": Hostile(trap)}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps({"state_dict": Hostile(trap)}, protocol=2))
    with pytest.raises(AssetError, match="nothing of it was run"):
        run(Model(model.config, checkpoint), made, tmp_path / "out")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_an_error(
    model: Model, made: Path, tmp_path: Path, content: bytes
) -> None:
    checkpoint = tmp_path / "epoch_latest.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(AssetError, match="not a checkpoint"):
        run(Model(model.config, checkpoint), made, tmp_path / "out")


def test_a_missing_checkpoint_is_an_error(model: Model, made: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no such checkpoint"):
        run(Model(model.config, tmp_path / "absent.pt"), made, tmp_path / "out")
