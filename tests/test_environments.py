"""The three places that say what is needed agree: pyproject.toml, environment.yml, the pinned list."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

#: What conda calls otherwise.
CONDA = {"torch": "pytorch-gpu", "faiss-cpu": "faiss-gpu"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(requirement: Requirement) -> dict[str, str]:
    """Return the bounds of a requirement by their sign."""
    return {clause.operator: clause.version for clause in requirement.specifier}


def test_the_conda_environment_has_every_dependency_with_its_bound() -> None:
    *listed, pip = [
        entry
        for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if entry != "pip"
    ]
    there = {Requirement(entry).name: bounds(Requirement(entry)) for entry in [*listed[1:], *pip["pip"]]}
    needed = {Requirement(entry).name: bounds(Requirement(entry)) for entry in PROJECT["dependencies"]}
    assert there == {CONDA.get(name, name): bound for name, bound in needed.items()}


def test_the_pinned_list_has_every_dependency_within_its_bounds() -> None:
    lines = (ROOT / ".ci" / "requirements.txt").read_text().splitlines()
    pinned = dict(re.split("==", line, maxsplit=1) for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = PROJECT["optional-dependencies"]
    for entry in [*PROJECT["dependencies"], *extras["dev"], *extras["datacomp"]]:
        requirement = Requirement(entry)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), entry
