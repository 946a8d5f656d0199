"""What `ecodatum plan` shows."""

from collections.abc import Sequence

import pandas as pd

from ecodatum.pipeline.units import Unit


def stage_table(units: Sequence[Unit]) -> pd.DataFrame:
    """Return a row per stage: units, done, to run, and the work that is left in the stage's measure."""
    rows = []
    for stage in dict.fromkeys(unit.stage for unit in units):
        mine = [unit for unit in units if unit.stage == stage]
        left = [unit for unit in mine if not unit.done()]
        of = next((unit.of for unit in mine if unit.of), "")
        work = f"{sum(unit.size for unit in left):,} {of}" if of and left else "-"
        rows.append([stage, len(mine), len(mine) - len(left), len(left), work])
    return pd.DataFrame(rows, columns=["Stage", "Units", "Done", "To run", "Work left"])


def unit_table(units: Sequence[Unit]) -> pd.DataFrame:
    """Return a row per unit with its state."""
    rows = [[unit.stage, unit.name, "done" if unit.done() else "to run"] for unit in units]
    return pd.DataFrame(rows, columns=["Stage", "Unit", "State"])
