"""What clusters do to jobs, done to real ones; after each, another run ends as an undisturbed one does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecodatum.pipeline.status import read_status
from ecodatum.pipeline.submission import cancel_all
from tests.conftest import ROOT
from tests.slurm.conftest import PATIENCE, PrivateSlurm, ended, running, send, task_of, until
from tests.slurm.trivial import attempts, chain, made

WIDTH = 4
NAMES = [f"{stage}{number}" for stage in "ab" for number in range(WIDTH)]
UNDISTURBED = {
    **{f"a{i}": f"a{i}" for i in range(WIDTH)},
    **{f"b{i}": f"b{i}(a{i})" for i in range(WIDTH)},
    "c": "c" + "".join(f"(b{i}(a{i}))" for i in range(WIDTH)),
}


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A file; the units of the first stage take ten minutes while it exists."""
    flag = tmp_path / "slow"
    flag.touch()
    return flag


def test_undisturbed_each_unit_is_done_once(slurm: PrivateSlurm, tmp_path: Path) -> None:
    units = chain(tmp_path, WIDTH)
    assert send(units, tmp_path).tasks == 2 * WIDTH + 1
    status = ended(tmp_path)
    assert len(status.of("done")) == len(units)
    assert made(tmp_path) == UNDISTURBED
    assert set(attempts(tmp_path).values()) == {1}
    assert all(unit.task and unit.seconds >= 0 and unit.time for unit in status.units)
    assert send(units, tmp_path).tasks == 0


def test_a_task_killed_goes_back_to_the_queue(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, WIDTH, seconds=600, slow_while=slow)
    send(units, tmp_path)
    pids = [running(unit) for unit in units[:WIDTH]]
    slow.unlink()
    os.kill(pids[2], signal.SIGKILL)
    until(lambda: attempts(tmp_path)["a2"] == 2)
    for pid in (pids[0], pids[1], pids[3]):
        os.kill(pid, signal.SIGKILL)
    assert not ended(tmp_path).of("failed", "blocked", "cancelled", "pending")
    assert made(tmp_path) == UNDISTURBED
    assert attempts(tmp_path) == {**dict.fromkeys([*NAMES, "c"], 1), **dict.fromkeys(NAMES[:WIDTH], 2)}


def test_a_task_killed_too_often_fails_alone(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, WIDTH, seconds=6, slow_while=slow)
    send(units, tmp_path, retries=0)
    os.kill(running(units[2]), signal.SIGKILL)
    slow.unlink()
    status = ended(tmp_path)
    assert [unit.unit.name for unit in status.of("failed")] == ["a2"]
    assert [unit.unit.name for unit in status.of("blocked")] == ["b2", "c"]
    assert [unit.reason for unit in status.of("blocked")] == [
        "needs first/a2, which is not done",
        "needs second/b2, which is not done",
    ]
    send(units, tmp_path, retries=0)
    assert not ended(tmp_path).of("failed", "blocked")
    assert made(tmp_path) == UNDISTURBED
    assert attempts(tmp_path) == {**dict.fromkeys([*NAMES, "c"], 1), "a2": 2}


def test_jobs_cancelled_leave_nothing_half_done(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, WIDTH, seconds=600, slow_while=slow)
    send(units, tmp_path)
    running(units[0])
    slurm("scancel", task_of(units[0]))
    until(lambda: read_status(tmp_path / "trivial").units[0].state == "cancelled")
    assert cancel_all(tmp_path / "trivial") == 2 * WIDTH
    status = ended(tmp_path)
    assert {unit.state for unit in status.units} == {"cancelled"}
    assert made_for_good(tmp_path) == []
    slow.unlink()
    send(units, tmp_path)
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path) == UNDISTURBED


def made_for_good(work: Path) -> list[str]:
    return [
        path.name for path in (work / "made").glob("*") if ".tmp-" not in path.name and path.suffix != ".lock"
    ]


def test_a_task_requeued_begins_anew(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, WIDTH, seconds=6, slow_while=slow)
    send(units, tmp_path)
    running(units[1])
    slow.unlink()
    slurm("scontrol", "requeue", task_of(units[1]))
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path) == UNDISTURBED
    assert attempts(tmp_path) == {**dict.fromkeys([*NAMES, "c"], 1), "a1": 2}


def test_a_task_preempted_goes_on_afterwards(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, 1, seconds=600, slow_while=slow)
    cpus = int(slurm("sinfo", "--noheader", "--format=%c").split()[0])
    send(units, tmp_path, cpus=cpus, memory_gb=1)
    running(units[0])
    slow.unlink()
    slurm(
        "sbatch",
        "--partition=urgent",
        f"--cpus-per-task={cpus}",
        "--mem=100",
        "--output=/dev/null",
        "--wrap=true",
    )
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path)["c"] == "c(b0(a0))"
    assert attempts(tmp_path) == {"a0": 2, "b0": 1, "c": 1}


def test_a_time_limit_is_survived_as_often_as_the_profile_says(
    slurm: PrivateSlurm, tmp_path: Path, slow: Path
) -> None:
    survives, fails = tmp_path / "survives", tmp_path / "fails"
    units = chain(survives, 1, seconds=600, slow_while=slow)
    hopeless = chain(fails, 1, seconds=600, slow_while=tmp_path)
    send(units, survives, hours=1 / 60, signal_seconds=35, timeouts=1)
    send(hopeless, fails, hours=1 / 60, signal_seconds=35, timeouts=0)
    running(units[0])
    slow.unlink()
    status = ended(fails)
    assert [unit.state for unit in status.units] == ["failed", "blocked", "blocked"]
    assert "timed-out too many times" in status.units[0].reason
    assert len(ended(survives).of("done")) == len(units)
    assert made(survives)["c"] == "c(b0(a0))"
    assert attempts(survives) == {"a0": 2, "b0": 1, "c": 1}


def test_slurmd_killed_and_restarted_disturbs_nothing(
    slurm: PrivateSlurm, tmp_path: Path, slow: Path
) -> None:
    units = chain(tmp_path, WIDTH, seconds=6, slow_while=slow)
    send(units, tmp_path)
    running(units[0])
    os.kill(slurm.pid("slurmd"), signal.SIGKILL)
    slurm.script("start")
    slow.unlink()
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path) == UNDISTURBED
    assert set(attempts(tmp_path).values()) == {1}


def test_a_node_that_dies_with_all_it_runs_leaves_nothing_half_done(
    slurm: PrivateSlurm, tmp_path: Path, slow: Path
) -> None:
    units = chain(tmp_path, 1, seconds=600, slow_while=slow)
    send(units, tmp_path)
    process = running(units[0])
    job = slurm("squeue", "--noheader", "--states=R", "--format=%A").split()[0]
    os.kill(slurm.pid("slurmd"), signal.SIGKILL)
    for step in _steps(slurm, job):
        os.kill(step, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    slow.unlink()
    until(lambda: slurm("squeue", "--noheader", "--states=R") == "")
    slurm.script("start")
    ended(tmp_path)
    send(units, tmp_path)  # had Slurm not started it again by itself
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path)["c"] == "c(b0(a0))"
    assert attempts(tmp_path) == {"a0": 2, "b0": 1, "c": 1}


def _steps(slurm: PrivateSlurm, job: str) -> list[int]:
    """Return the processes that watch over a job's steps in this Slurm, and over no other's."""
    found = []
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            watches = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode())
            ours = str(slurm.folder).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if watches and ours:
            found.append(pid)
    return found


def test_slurmctld_restarted_disturbs_nothing(slurm: PrivateSlurm, tmp_path: Path, slow: Path) -> None:
    units = chain(tmp_path, WIDTH, seconds=600, slow_while=slow)
    send(units, tmp_path)
    pids = [running(unit) for unit in units[:WIDTH]]
    os.kill(slurm.pid("slurmctld"), signal.SIGTERM)
    until(lambda: not read_status(tmp_path / "trivial").asked)
    away = read_status(tmp_path / "trivial")
    assert {unit.state for unit in away.units[:WIDTH]} == {"running"}
    assert "Slurm cannot be asked" in away.units[0].reason
    slurm.script("start")
    slow.unlink()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path) == UNDISTURBED


def test_a_full_disk_fails_units_with_the_reason_and_is_mended(slurm: PrivateSlurm, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        units = chain(tmp_path, WIDTH, size=1_000_000)
        (disk / "made").mkdir()
        (tmp_path / "made").symlink_to(disk / "made")
        send(units, tmp_path)
        status = ended(tmp_path)
        full = status.of("failed")
        assert full and all("No space left" in unit.reason for unit in full)
        assert not [path for path in (disk / "made").iterdir() if ".tmp-" in path.name]
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        send(units, tmp_path)
        assert len(ended(tmp_path).of("done")) == len(units)
        assert made(tmp_path)["c"].replace(" ", "") == UNDISTURBED["c"]
        again = {unit.unit.name for unit in full}
        counted = attempts(tmp_path)
        assert {name for name in counted if counted[name] > 1} <= again
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_unit_that_always_fails_stops_none_of_fifty_others(slurm: PrivateSlurm, tmp_path: Path) -> None:
    units = chain(tmp_path, 51)
    broken = tmp_path / "broken"
    broken.touch()
    failing = chain(tmp_path, 51, fails_while=broken)[7]
    units[7] = failing
    packed = send(units, tmp_path, max_tasks=13)
    assert packed.tasks <= 13
    status = ended(tmp_path)
    assert [unit.unit.name for unit in status.of("failed")] == ["a7"]
    assert status.of("failed")[0].reason.startswith("a7: cannot be done now")
    assert [unit.unit.name for unit in status.of("blocked")] == ["b7", "c"]
    assert len(status.of("done")) == 100
    assert attempts(tmp_path)["a7"] == 1  # trying again would not mend it
    broken.unlink()
    assert send(units, tmp_path, max_tasks=13).units == 3
    assert not ended(tmp_path).of("failed", "blocked")
    assert {name: count for name, count in attempts(tmp_path).items() if count > 1} == {"a7": 2}


DRIVER = """
import sys
from pathlib import Path
from tests.slurm.conftest import send
from tests.slurm.trivial import chain
work = Path(sys.argv[1])
send(chain(work, {width}), work, max_array_size=3)
"""


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_driver_killed_while_it_submits_leaves_nothing_that_the_next_cannot_mend(
    slurm: PrivateSlurm, tmp_path: Path, at: int
) -> None:
    # Slurm has taken the array, and the driver dies before it can write that down.
    shim = tmp_path / "bin" / "sbatch"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\necho >>{tmp_path}/calls\nPATH=${{PATH#*:}} sbatch "$@"\n'
        f'[ "$(wc -l <{tmp_path}/calls)" -lt {at} ] || kill -9 $PPID\n'
    )
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER.format(width=WIDTH), str(tmp_path)],
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert driver.returncode == -signal.SIGKILL
    send(chain(tmp_path, WIDTH), tmp_path)
    assert len(ended(tmp_path).of("done")) == 2 * WIDTH + 1
    assert slurm("squeue", "--noheader") == ""
    assert made(tmp_path) == UNDISTURBED
    assert set(attempts(tmp_path).values()) == {1}


def test_two_launches_at_once_submit_each_unit_once(slurm: PrivateSlurm, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER.format(width=WIDTH), str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    assert len(ended(tmp_path).of("done")) == 2 * WIDTH + 1
    assert made(tmp_path) == UNDISTURBED
    assert set(attempts(tmp_path).values()) == {1}


def test_a_retry_waits_for_the_unit_that_is_tried_again(
    slurm: PrivateSlurm, tmp_path: Path, slow: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    units = chain(tmp_path, 2, seconds=600, slow_while=slow)
    units[1] = chain(tmp_path, 2, fails_while=broken)[1]
    send(units, tmp_path)
    until(lambda: read_status(tmp_path / "trivial").units[1].state == "failed")
    pid = running(units[0])
    broken.unlink()
    packed = send(units, tmp_path)  # b1 and c wait in the queue for the a1 that has failed
    assert [u.name for _, tasks in packed.arrays for task in tasks for u in task] == ["a1", "b1", "c"]
    slow.unlink()
    os.kill(pid, signal.SIGKILL)
    assert len(ended(tmp_path).of("done")) == len(units)
    assert made(tmp_path)["c"] == "c(b0(a0))(b1(a1))"
    assert attempts(tmp_path) == {"a0": 2, "a1": 2, "b0": 1, "b1": 1, "c": 1}


def test_status_needs_no_accounting_and_no_slurm_to_know_what_was(
    slurm: PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    units = chain(tmp_path, 3, seconds=600, slow_while=slow)
    units[1] = chain(tmp_path, 3, fails_while=broken)[1]
    send(units, tmp_path, retries=0)
    pids = [running(units[0]), running(units[2])]
    slow.unlink()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ended(tmp_path)
    shim = tmp_path / "bin" / "sacct"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\n")  # an accounting that was purged
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    states = {unit.unit.name: unit for unit in read_status(tmp_path / "trivial").units}
    assert [states[f"a{i}"].state for i in range(3)] == ["failed"] * 3
    assert states["b0"].state == "blocked"
    assert states["a1"].reason.startswith("a1: cannot be done now")
    assert "no longer tells" in states["a2"].reason
    assert states["a2"].log == units[2].log
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none"))
    away = read_status(tmp_path / "trivial")
    assert not away.asked
    assert {unit.unit.name: unit.state for unit in away.units}["a1"] == "failed"
