"""Measures whole processes: CPU and wall seconds, and the peak memory of all processes of a command."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL = 0.02


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds of CPU (user and system) and of wall time, peak memory in bytes.

    `peak` is the sum over the processes of the command at the worst of many moments; pages that
    processes share are counted for each. A moment is missed when it is shorter than the interval, but the
    largest process alone is known exactly and is the least that is returned.
    """

    cpu: float
    wall: float
    peak: int


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Usage:
    """Run a command to its end and return what it took; raises RuntimeError, with its output, if it fails."""
    start = time.monotonic()
    with subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        output: list[bytes] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda stream: output.append(stream.read()), args=(process.stdout,))
        reader.start()
        peak = 0
        while True:
            ended, status, spent = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, _session_memory(process.pid))
            time.sleep(_INTERVAL)
        wall = time.monotonic() - start
        reader.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{b''.join(output).decode(errors='replace')[-4000:]}")
    return Usage(spent.ru_utime + spent.ru_stime, wall, max(peak, spent.ru_maxrss * 1024))


def _session_memory(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * _PAGE
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    return total


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
