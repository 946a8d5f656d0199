"""What is said about a table: what made it, what its marks mean, and what it lacks."""

from collections.abc import Iterable, Sequence
from typing import Final

from ecodatum.report.leaderboard import Leaderboard

#: The marks of published numbers by how they were checked, and what the marks mean.
MARKS: Final = {"yes": "", "secondhand": "†", "no": "‡"}
_MEANING: Final = {
    "†": "† read on a page that reports the source, not in the source.",
    "‡": "‡ recalled only, checked nowhere: do not quote.",
}


def made_by(board: Leaderboard) -> str:
    """Say what made a table: the experiment, its seeds, the package's version, the runs' fingerprint."""
    return (
        f"Experiment {board.experiment.name}, scale {board.scale.name}, {_seeds(board.experiment.seeds)};"
        f" ecodatum {', '.join(board.versions)}, runs {board.runs}."
    )


def caption(board: Leaderboard) -> str:
    """Say what a table of scores shows, and what made it."""
    one = len(board.experiment.seeds) == 1
    spread = "One seed: no spread." if one else "Mean ± standard deviation over seeds."
    return f"{spread} {made_by(board)}"


def missing(board: Leaderboard) -> list[str]:
    """Say what the runs lack."""
    notes = []
    titles = {item.name: item.title for item in board.filters}
    if board.unfinished:
        lacking = [f"{titles[name]} ({_seeds(seeds)})" for name, seeds in board.unfinished.items()]
        notes.append(f"Not finished: {'; '.join(lacking)}.")
    if board.unreadable:
        notes.append(f"Results that cannot be read: {'; '.join(board.unreadable)}.")
    for run, tasks in board.unscored().items():
        notes.append(f"No result: {run}: {', '.join(tasks)}. Left out of the means that these tasks are in.")
    return notes


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def best(board: Leaderboard) -> list[str]:
    """Say what is in bold, and which filters do not compete for it."""
    given = [item.title for item in board.filters if item.subset is not None]
    if len(board.filters) - len(given) < 2:
        return []
    apart = f" Does not compete, since its subset is ready-made: {', '.join(given)}." if given else ""
    return [f"Bold: the best of the filters that were run.{apart}"]


def noise(changed: Iterable[str]) -> list[str]:
    """Say what is within the noise of a published number; changed: filters that may not be."""
    notes = [
        "Difference: ours − published. Within noise: the published number, taken for one more run, lies in"
        " the 95 % prediction interval of ours, mean ± t(0.975; n − 1) · std · √(1 + 1/n) over n seeds, or"
        " off it by no more than its own rounding; unknown with one seed."
    ]
    titles = ", ".join(dict.fromkeys(changed))
    if titles:
        notes.append(f"Not the rules of baselines/, and so perhaps not what was published: {titles}.")
    return notes


def marks(rows: Iterable[Sequence[str]]) -> list[str]:
    """Say what the marks mean that are in the rows."""
    shown = "".join(cell for row in rows for cell in row[1:])
    return [meaning for mark, meaning in _MEANING.items() if mark in shown]
