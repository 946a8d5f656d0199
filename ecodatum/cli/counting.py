"""A progress bar for one long piece of work; where there is no terminal, a line now and then."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ecodatum.cli.console import err

_SECONDS_BETWEEN_LINES = 30.0

#: Told how much is done, and what is going on now.
Count = Callable[[int, str], None]


@contextlib.contextmanager
def counting(what: str, total: int, of: str) -> Iterator[Count]:
    """Show how far a piece of work of `total` samples, tasks or bytes (`of`) is, while the block runs."""
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(of))
        with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[now]}"), console=err) as bar:
            task = bar.add_task(what, total=total, now="")
            yield lambda done, now: bar.update(task, completed=done, now=now)
        return
    told = time.monotonic()

    def tell(done: int, now: str) -> None:
        nonlocal told
        if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            err.print(f"{what}: {done:,} of {total:,} {of}  {now}", markup=False)

    yield tell
