"""JSON Schemas: every YAML that is shipped fits its own, and what the loaders refuse mostly does not."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ecodatum.cli.schema import Kind, document
from tests.conftest import ROOT

FOLDERS = {Kind.EXPERIMENT: "experiments", Kind.RECIPE: "baselines", Kind.CLUSTER: "slurm"}
FILES = [
    (kind, path.relative_to(ROOT))
    for kind, folder in FOLDERS.items()
    for path in sorted((ROOT / folder).glob("*.yaml"))
]


def _errors(kind: Kind, content: Any) -> list[str]:
    as_json = json.loads(json.dumps(content))  # as an editor sees it: keys are strings
    return [error.message for error in Draft202012Validator(document(kind)).iter_errors(as_json)]


@pytest.mark.parametrize("kind", list(Kind))
def test_the_command_prints_a_valid_schema(kind: Kind) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ecodatum", "schema", kind], capture_output=True, text=True, check=True
    )
    Draft202012Validator.check_schema(json.loads(done.stdout))
    assert json.loads(done.stdout) == document(kind)


def test_there_are_files_of_every_kind() -> None:
    assert {kind for kind, _ in FILES} == set(Kind)


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: str(value))
def test_every_shipped_file_fits_its_schema(kind: Kind, path: Any) -> None:
    assert _errors(kind, yaml.safe_load((ROOT / path).read_text())) == []


@pytest.mark.parametrize(
    ("kind", "file", "changes"),
    [
        (Kind.EXPERIMENT, "experiments/nano.yaml", {"filter": []}),
        (Kind.EXPERIMENT, "experiments/nano.yaml", {"seeds": ["0"]}),
        (Kind.EXPERIMENT, "experiments/nano.yaml", {"train": {"workers": 1}}),
        (Kind.EXPERIMENT, "experiments/nano.yaml", {"filters": [{"recipe": "x", "ablate": {"drop": 3}}]}),
        (Kind.EXPERIMENT, "experiments/nano.yaml", {"filters": [{"recipe": "x", "matrix": {"keep.top": 3}}]}),
        (Kind.RECIPE, "baselines/ecodatum.yaml", {"combine": "majority"}),
        (Kind.RECIPE, "baselines/ecodatum.yaml", {"keep": {"top": 1.5}}),
        (Kind.RECIPE, "baselines/ecodatum.yaml", {"rules": [{"score": "nodot", "above": 0}]}),
        (Kind.RECIPE, "baselines/ecodatum_deduplicated.yaml", {"deduplicate": [{"name": "a"}]}),
        (Kind.CLUSTER, "slurm/generic.yaml", {"stages": {"train": {"gpu": 1}}}),
        (Kind.CLUSTER, "slurm/generic.yaml", {"default": {"hours": 0}}),
    ],
)
def test_a_slip_is_found(kind: Kind, file: str, changes: dict[str, Any]) -> None:
    assert _errors(kind, {**yaml.safe_load((ROOT / file).read_text()), **changes})


def test_what_a_file_extends_may_give_what_is_required() -> None:
    partial = {"name": "mine", "train": {"scale": "medium"}, "evaluate": {"units": 4}}
    assert _errors(Kind.EXPERIMENT, partial)
    assert _errors(Kind.EXPERIMENT, {"extends": "small", **partial}) == []
    assert _errors(Kind.EXPERIMENT, {"extends": "small"}) == ["'name' is a required property"]


def test_unquoted_words_of_yaml_fit() -> None:
    nano = yaml.safe_load((ROOT / "experiments/nano.yaml").read_text())
    assert _errors(Kind.EXPERIMENT, {**nano, "tracking": yaml.safe_load("wandb: off")}) == []
    assert _errors(Kind.CLUSTER, yaml.safe_load("default: {account: 1234, sbatch: {exclusive: true}}")) == []
