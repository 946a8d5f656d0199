"""Task lists: DataComp's, and one's own with errors that name the key."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ecodatum.errors import ConfigError
from ecodatum.evaluate.tasks import load_tasks, select


def write(folder: Path, text: str) -> str:
    path = folder / "tasks.yaml"
    path.write_text(text)
    return str(path)


def test_datacomp_has_forty_tasks_of_which_38_have_a_main_metric() -> None:
    tasks = load_tasks("datacomp")
    assert len(tasks) == 40
    assert [task.key for task in tasks if task.main_metric is None] == [
        "fairness/fairface",
        "fairness/utkface",
    ]
    assert Counter(task.group for task in tasks) == {
        "imagenet": 1,
        "shifts": 6,
        "vtab": 13,
        "retrieval": 3,
        "other": 17,
    }


def test_data_lies_where_datacomp_keeps_it() -> None:
    folders = {task.key: task.data for task in load_tasks("datacomp")}
    assert folders["vtab/caltech101"] == "wds_vtab-caltech101_test"
    assert folders["fairness/geode"] == "wds_geode_test"
    assert folders["misc/winogavil"] == "nlphuji/winogavil"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks:\n- {key: a, nme: A}\n", "nme.*name"),
        ("tasks:\n- {key: a, name: A, kind: clasification}\n", "kind.*'classification'"),
        ("tasks:\n- {key: a, name: A, main_metric: acc2}\n", "acc2.*acc1, acc5"),
        ("tasks:\n- {key: a, name: A, kind: retrieval}\n", "'acc1' is none of a retrieval"),
        ("tasks:\n- {key: a, name: A, kind: groups, group_by: [style]}\n", "style is not among metadata"),
        ("tasks:\n- {key: a, name: A}\n- {key: a, name: B}\n", "two tasks have the key 'a'"),
        ("tasks: []\n", "a list of tasks"),
        ("- key: a\n", "mapping"),
    ],
)
def test_a_bad_list_is_an_error_that_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        load_tasks(path)
    assert "tasks.yaml" in str(error.value)


def test_the_worst_group_of_several_fields_is_named_by_its_field(tmp_path: Path) -> None:
    text = "tasks:\n- {key: a, name: A, kind: groups, main_metric: acc_worst_year, metadata: [region, year], "
    (task,) = load_tasks(write(tmp_path, text + "group_by: [year, region]}\n"))
    assert task.worst_group("region") == "acc_worst_region"


def test_tasks_are_chosen_by_key_or_name() -> None:
    tasks = load_tasks("datacomp")
    assert [task.key for task in select(tasks, ("ImageNet 1k", "cifar10"))] == ["cifar10", "imagenet1k"]
    with pytest.raises(ConfigError, match="no such task: nope"):
        select(tasks, ("nope",))


def test_reading_tasks_and_scales_does_not_import_torch() -> None:
    code = (
        "import sys, ecodatum.evaluate.tasks, ecodatum.evaluate.aggregate;"
        "import ecodatum.train.scales, ecodatum.train.arguments, ecodatum.train.progress;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
