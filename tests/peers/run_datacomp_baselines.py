"""Runs scripts of DataComp, unmodified, once for each list of a script and its arguments.

Started as `python … DATACOMP_HOME JOBS.json` with the variables of `ecodatum.datacomp.scripts.environment`,
whose layer mends what today's packages break. Worker processes become threads here, since each of them would
import torch anew, waits become short, and faiss's GPU its CPU. For each job it writes `<save_path>.json`: the
exception that ended it, or null.
"""

import json
import multiprocessing.pool
import queue
import runpy
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class _Impatient(queue.Queue[Any]):
    """A queue that waits for a tenth of a second where the script would wait for ten."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, min(timeout or 0.1, 0.1))


def _mend() -> None:
    import baselines.apply_filter as filters  # type: ignore[import-not-found]
    import baselines.utils as utils  # type: ignore[import-not-found]
    import faiss

    utils.Pool = filters.Pool = multiprocessing.Pool = multiprocessing.pool.ThreadPool  # type: ignore
    filters.mp = SimpleNamespace(
        Queue=_Impatient, Process=threading.Thread, set_start_method=lambda *_, **__: None
    )
    filters.time.sleep = lambda _: None
    stand_ins: dict[str, Any] = {
        "StandardGpuResources": SimpleNamespace,
        "GpuIndexFlatConfig": SimpleNamespace,
        "GpuIndexFlatL2": lambda resources, width, config: faiss.IndexFlatL2(width),
        "vector_float_to_array": faiss.vector_to_array,
    }
    for name, stand_in in stand_ins.items():
        setattr(faiss, name, getattr(faiss, name, stand_in))


def main(home: Path, jobs: Path) -> None:
    """Run all jobs in this process."""
    sys.path.insert(0, str(home))
    _mend()
    for script, *arguments in json.loads(jobs.read_text(encoding="utf-8")):
        sys.argv = [script, *arguments]
        ended = None
        try:
            runpy.run_path(str(home / script), run_name="__main__")
        except Exception as error:  # the tests look at what it was
            ended = f"{type(error).__name__}: {error}"
        report = Path(arguments[arguments.index("--save_path") + 1] + ".json")
        report.write_text(json.dumps(ended), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
