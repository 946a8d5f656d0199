"""Operators of other distributions: the guide's own, built and installed, and ones that do not work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecodatum.pool import uids as uid_arrays
from tests.conftest import MakePool

GUIDE = Path(__file__).parents[2] / "baselines" / "own_operator.md"


def guide_files() -> dict[str, str]:
    """The files that the guide shows: a name in a line of its own, then a block."""
    return dict(
        re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )


def install(source: Path, files: dict[str, str], target: Path) -> Path:
    """Build the files of a distribution, install it into a folder, and return that."""
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-build-isolation", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True, text=True)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    return install(folder / "source", guide_files(), folder / "site")


def declared(site: Path, point: str, value: str, module: str = "", *, name: str = "other-package") -> Path:
    """Write what an installed distribution leaves: its metadata, and the module `other`."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ecodatum.operators]\n{point} = {value}\n")
    (site / "other.py").write_text(module)
    return site


def python(program: str, *sites: Path) -> str:
    """Run a program that sees the sites; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*sites, GUIDE.parents[1])))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def error(name: str, *sites: Path) -> str:
    """The error's text when the operator `name` is created where the sites are installed."""
    return python(
        "from ecodatum.operators.operator import create\nfrom ecodatum.errors import ConfigError\n"
        f"try: create({name!r}, {{}}, where='r.yaml')\nexcept ConfigError as error: print(error)",
        *sites,
    )


def test_the_guides_operator_curates(installed: Path, make_pool: MakePool, tmp_path: Path) -> None:
    captions = ["a dog", "IMG 0042", "4 dogs on a long beach", ""]
    pool = make_pool(rows=4, parts=1, changes={row: {"text": text} for row, text in enumerate(captions)})
    (tmp_path / "few_digits.yaml").write_text(guide_files()["few_digits.yaml"])
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{GUIDE.parents[1]}"}
    command = [sys.executable, "-m", "ecodatum", "curate", "few_digits.yaml", "--pool", str(pool)]
    done = subprocess.run(
        [*command, "--out", "out.npy"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 4 samples" in done.stdout
    wanted = uid_arrays.from_words(
        np.zeros(3, np.uint64),
        np.array([row * 0x9E3779B97F4A7C15 % 2**64 + 1 for row in (0, 2, 3)], np.uint64),
    )
    assert set(np.load(tmp_path / "out.npy")["f1"].tolist()) == set(wanted["f1"].tolist())


def test_the_guides_parameters_count(installed: Path) -> None:
    program = (
        "import pyarrow as pa; from ecodatum.operators.operator import create\n"
        "batch = pa.RecordBatch.from_pydict({'text': ['1 2', None, '', 'a\\n7']})\n"
        "for skip in (False, True):\n"
        "    scores = create('digits', {'skip_spaces': skip}).score(batch)\n"
        "    print([x and round(x, 3) for x in scores.values['share'].to_pylist()], scores.faults[0].reason)"
    )
    assert python(program, installed).splitlines() == [
        "[0.667, None, 0.0, 0.333] no caption",
        "[1.0, None, 0.0, 0.5] no caption",
    ]


def test_an_unknown_operator_is_answered_with_the_installed_ones_too(installed: Path) -> None:
    assert "known operators: " in error("digit", installed)
    assert ", digits, " in error("digit", installed)


def test_a_name_that_is_taken_names_both_distributions(tmp_path: Path, installed: Path) -> None:
    clash = error("clip", declared(tmp_path / "a", "clip", "other:Clip"))
    assert "r.yaml: several distributions have an operator 'clip'" in clash
    assert "ecodatum (ecodatum.operators.clip:Clip), other-package (other:Clip)" in clash
    two = error("digits", installed, declared(tmp_path / "b", "digits", "other:Digits"))
    assert "ecodatum-digits (ecodatum_digits:Digits)" in two
    assert "other-package (other:Digits)" in two


OPERATOR = "from ecodatum.operators.operator import MetadataOperator, Operator\n"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("import nowhere_at_all", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("", "cannot be loaded: AttributeError: module 'other' has no attribute 'Mine'"),
        ("class Mine: pass", "it is no operator"),
        ("Mine = 3", "it is no operator"),
        (f"{OPERATOR}class Mine(MetadataOperator): name = 'mine'", "its class lacks columns, inputs, score"),
        (
            f"{OPERATOR}class Mine(MetadataOperator):\n"
            "    name, version, columns, inputs, score = 'yours', 1, (), (), None",
            "the class needs name = 'mine'",
        ),
    ],
)
def test_an_entry_point_that_does_not_work_names_its_distribution(
    module: str, message: str, tmp_path: Path
) -> None:
    shown = error("mine", declared(tmp_path, "mine", "other:Mine", module))
    assert f"operator mine of the distribution other-package (other:Mine): {message}" in shown


def test_a_broken_entry_point_does_not_disturb_other_operators(tmp_path: Path) -> None:
    site = declared(tmp_path, "mine", "other:Mine", "raise RuntimeError")
    program = "from ecodatum.operators.operator import create; print(create('caption', {}).name)"
    assert python(program, site) == "caption\n"
