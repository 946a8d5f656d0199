"""What `ecodatum plan` shows."""

from collections.abc import Sequence

import pandas as pd

from ecodatum.pipeline.sharing import Users, users_of
from ecodatum.pipeline.units import Unit


def stage_table(units: Sequence[Unit], users: Users) -> pd.DataFrame:
    """Return a row per stage: units, done, to run, shared, and the work that is left in the stage's measure.

    Shared are the units that several filters use; in brackets, how many filters use the most shared one.
    """
    rows = []
    for stage in dict.fromkeys(unit.stage for unit in units):
        mine = [unit for unit in units if unit.stage == stage]
        left = [unit for unit in mine if not unit.done()]
        of = next((unit.of for unit in mine if unit.of), "")
        work = f"{sum(unit.size for unit in left):,} {of}" if of and left else "-"
        counts = [len(users_of(unit, users)) for unit in mine]
        shared = sum(count > 1 for count in counts)
        among = f"{shared:,} (by up to {max(counts)})" if shared else "-"
        rows.append([stage, len(mine), len(mine) - len(left), len(left), among, work])
    return pd.DataFrame(rows, columns=["Stage", "Units", "Done", "To run", "Shared", "Work left"])


def unit_table(units: Sequence[Unit], users: Users) -> pd.DataFrame:
    """Return a row per unit with its state and the filters that use it."""
    rows = [
        [unit.stage, unit.name, "done" if unit.done() else "to run", _names(users_of(unit, users))]
        for unit in units
    ]
    return pd.DataFrame(rows, columns=["Stage", "Unit", "State", "Filters"])


def _names(filters: frozenset[str]) -> str:
    return f"{len(filters)} filters" if len(filters) > 3 else ", ".join(sorted(filters)) or "-"


def sharing_line(users: Users) -> str:
    """Tell how many units there would be if every filter made all that it needs for itself."""
    apart = sum(map(len, users.values()))
    filters = len(frozenset().union(*users.values()))
    return f"{filters} filters share: {len(users):,} units, where each filter for itself would make {apart:,}"
