"""What an array task does: its units, one after another; with several processes, all of them each unit."""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecodatum.errors import RunError
from ecodatum.files import refresh, write_json
from ecodatum.launch import slurm
from ecodatum.pipeline.execution import run_unit
from ecodatum.pipeline.units import Outcome, Unit


@dataclass(frozen=True)
class RunTask:
    """Runs the units of an array task; `visible_after`: seconds until another node's files are seen."""

    visible_after: float

    def __call__(self, units: Sequence[Unit]) -> list[Outcome]:
        """Run the units; raises RunError in the end if one failed or was blocked, so that the task fails."""
        patience = time.monotonic() + self.visible_after
        rank, count = slurm.rank()
        if count == 1:
            outcomes = [run_unit(unit, patience=patience) for unit in units]
        else:
            slurm.export_rendezvous()
            if rank > 0:
                for unit in units:
                    _follow(unit)
                return []
            outcomes = [_lead(unit, patience) for unit in units]
        bad = [outcome for outcome in outcomes if outcome.status in {"failed", "blocked"}]
        if bad:
            lines = [f"  {outcome.unit} {outcome.status}: {outcome.message}" for outcome in bad]
            raise RunError(f"{len(bad)} of {len(outcomes)} units are not done\n" + "\n".join(lines))
        return outcomes


def _lead(unit: Unit, patience: float) -> Outcome:
    """Run a unit as the process that holds its lock and writes its manifest; tell the others where."""
    word = _word(unit)
    for stale in word.parent.glob(f"{unit.log.stem}.places-*"):
        stale.unlink(missing_ok=True)

    def begins(places: Mapping[str, Path]) -> None:
        write_json(word, {key: str(place) for key, place in places.items()})

    outcome = run_unit(unit, patience=patience, begins=begins)
    if not word.exists():
        write_json(word, None)
    return outcome


def _follow(unit: Unit) -> None:
    """Do the unit's job along with the first process, once that begins; it may find that it is done."""
    word = _word(unit)
    while True:
        refresh(word.parent)
        with contextlib.suppress(FileNotFoundError):
            places = json.loads(word.read_text(encoding="utf-8"))
            break
        time.sleep(0.2)
    if places is not None:
        unit.job.run({key: Path(place) for key, place in places.items()}, lambda finished: None)


def _word(unit: Unit) -> Path:
    """Return the file by which the first process of this start of the task tells the others."""
    return unit.log.with_name(f"{unit.log.stem}.places-{slurm.this_start()}")
