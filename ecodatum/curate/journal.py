"""The journal in which the workers of a search share a study."""

import json
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock


class Journal(JournalFileBackend):
    """One file that is only appended to, under a lock that network file systems know too.

    Optuna advises against SQLite there. Its own file backend waits for the disk at each of the fifteen
    entries of a trial, which takes longer than the trial; here a closed file is enough, which a killed
    worker cannot undo and other machines see. At a loss of power the last trials may be lost.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._guard = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), lock_obj=self._guard)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, all at once."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._guard.acquire()
        try:
            with self._path.open("ab") as file:
                file.write(lines.encode())
        finally:
            self._guard.release()
