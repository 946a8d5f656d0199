"""Starting scripts, watching them, stopping them; and finding the checkout that holds them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecodatum.datacomp import scripts
from ecodatum.datacomp.checkout import COMMIT, Checkout, find_checkout, install
from ecodatum.datacomp.scripts import OwnScale
from ecodatum.errors import AssetError, ConfigError, RunError


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout whose script writes its environment, and then does as its argument says."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "evaluate.py").write_text(
        "import json, os, sys, time\n"
        "with open(sys.argv[1], 'w') as file: json.dump([os.getpid(), dict(os.environ)], file)\n"
        "time.sleep(float(sys.argv[3]))\n"
        "sys.exit(int(sys.argv[2]))\n"
    )
    return Checkout(folder, COMMIT, changed=False)


def go(checkout: Checkout, told: Path, status: int = 0, seconds: float = 0, **options: object) -> None:
    arguments = {"own_scale": None, "on_cpu": False, "watch": lambda: None, **options}
    scripts.run(checkout, "evaluate.py", [str(told), str(status), str(seconds)], **arguments)  # type: ignore[arg-type]


def read(told: Path) -> tuple[int, dict[str, str]]:
    pid, environment = json.loads(told.read_text())
    return pid, environment


def test_a_script_is_told_of_the_layer_and_of_a_scale_of_ones_own(checkout: Checkout, tmp_path: Path) -> None:
    model = ("tiny", {"embed_dim": 4})
    own = OwnScale("mine", {"batch_size": 8}, model, ("--wd", "0.1"), ("--flag",)).write(tmp_path)
    go(checkout, tmp_path / "told", own_scale=own, on_cpu=True)
    _, environment = read(tmp_path / "told")
    assert Path(environment["PYTHONPATH"].split(os.pathsep)[0], "sitecustomize.py").is_file()
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    described = json.loads(Path(environment["ECODATUM_DATACOMP_SCALE"]).read_text())
    assert described["arguments"] == ["--wd", "0.1"]
    assert json.loads(Path(described["model_config"]).read_text()) == {"embed_dim": 4}


def test_a_script_that_fails_is_an_error(checkout: Checkout, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"evaluate\.py: ended with 3"):
        go(checkout, tmp_path / "told", status=3)


def test_what_the_watcher_raises_stops_the_script(checkout: Checkout, tmp_path: Path) -> None:
    told = tmp_path / "told"

    def watch() -> None:
        if told.exists() and told.stat().st_size:
            raise RunError("enough")

    with pytest.raises(RunError, match="enough"):
        go(checkout, told, seconds=300, watch=watch)
    assert not alive(read(told)[0])


def test_a_script_does_not_outlive_us(checkout: Checkout, tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = (
        "import sys; from pathlib import Path; from ecodatum.datacomp import scripts; "
        "from ecodatum.datacomp.checkout import Checkout; "
        "scripts.start(Checkout(Path(sys.argv[1]), None, False), 'evaluate.py', "
        "[sys.argv[2], '0', '300']).wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(checkout.path), str(told)])
    wait_for(lambda: told.exists() and told.stat().st_size > 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(read(told)[0]))


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("script", ["submit.py", "train.py"])
def test_a_script_that_there_is_not_is_an_error(checkout: Checkout, script: str) -> None:
    with pytest.raises((ConfigError, AssetError), match=r"no script|no such script"):
        scripts.start(checkout, script, [])


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "evaluate.py").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", "evaluate.py")
    git(folder, "commit", "--quiet", "-m", "A commit")
    return folder


def test_another_commit_is_found_and_not_used(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATACOMP_HOME", str(repository))
    found = find_checkout()
    assert found.commit not in (None, COMMIT)
    with pytest.raises(AssetError, match=f"is at commit .*, not {COMMIT}"):
        found.require_pinned()


def test_changed_files_are_noticed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATACOMP_HOME", str(repository))
    assert not find_checkout().changed
    (repository / "evaluate.py").write_text("print('changed')")
    assert find_checkout().changed


def test_no_checkout_is_an_error_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATACOMP_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="ecodatum datacomp install"):
        find_checkout()


def test_installing_what_is_not_datacomp_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be cloned"):
        install(tmp_path / "into", str(repository))
    assert not (tmp_path / "into").exists()
    with pytest.raises(RunError, match="holds something else"):
        install(repository)
