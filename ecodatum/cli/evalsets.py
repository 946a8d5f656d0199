"""`ecodatum evalsets`: DataComp's evaluation sets, all in one folder."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table
from ecodatum.cli.counting import counting
from ecodatum.errors import EcoDatumError, RunError
from ecodatum.evaluate.tasks import Task, load_tasks, select

app = typer.Typer(
    help="List, fetch and verify DataComp's evaluation sets, so that no compute node needs a network.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Option(help="The folder of all evaluation sets.")]
Only = Annotated[str | None, typer.Option("--tasks", help="Only these, by key or name, joined by commas.")]


@app.command(name="list")
def list_sets(data: Data = Path("evalsets"), tasks: Only = None) -> None:
    """Show every set: images, classes, where it is from, and what of it is here.

    Bytes and licence are the hub's own words, known once a set's fetching has begun; the sets' owners
    have terms of their own.

    Example: `ecodatum evalsets list --data EVALSETS`
    """
    from ecodatum.evaluate.hub_sets import read_record, repository

    rows = []
    for task in _tasks(tasks):
        record = read_record(data / task.data)
        state = "here" if (data / task.data).is_dir() else "–"
        if record is not None and (missing := record.missing(data / task.data)):
            state = f"{len(record.files) - len(missing)} of {len(record.files)} files"
        size, licence = (f"{record.size / 1e6:,.1f} MB", record.licence) if record else ("–", "–")
        rows.append((task.name, task.size, task.classes or "–", repository(task), size, licence, state))
    columns = ["Set", "Images", "Classes", "On the hub", "Size", "Licence", "Here"]
    out.print(table(pd.DataFrame(rows, columns=columns, dtype=object)))


@app.command()
def fetch(data: Data, tasks: Only = None) -> None:
    """Fetch what is missing, and check its sums; what was interrupted goes on where it was.

    Example: `ecodatum evalsets fetch --data EVALSETS --tasks imagenet1k,mnist`
    """
    from ecodatum.evaluate.hub_sets import fetch_set, plan_fetch

    failures: dict[str, str] = {}
    planned = []
    chosen = _tasks(tasks)
    with counting("ask the hub", len(chosen), "sets") as count:
        for number, task in enumerate(chosen, start=1):
            try:
                planned.append((task, plan_fetch(task, data)))
            except EcoDatumError as error:
                failures[task.key] = str(error)
            count(number, task.name)
    lacking = [record.files[n].size for task, record in planned for n in record.missing(data / task.data)]
    done = 0
    with counting("fetch", sum(lacking), "bytes") as count:
        for task, record in planned:

            def tell(size: int, name: str = task.name) -> None:
                nonlocal done
                done += size
                count(done, name)

            try:
                fetch_set(task, data, tell)
                out.print(f"{task.name}: {record.size:,} bytes, licence: {record.licence}", markup=False)
            except EcoDatumError as error:
                failures[task.key] = str(error)
    _raise(failures, "fetched", data)


@app.command()
def verify(data: Data, tasks: Only = None) -> None:
    """Read every set whole, and compare it with what the hub said of it. A wrong file is removed.

    Example: `ecodatum evalsets verify --data EVALSETS`
    """
    from ecodatum.evaluate.hub_sets import verify_set

    failures: dict[str, str] = {}
    chosen = _tasks(tasks)
    with counting("verify", len(chosen), "sets") as count:
        for number, task in enumerate(chosen, start=1):
            try:
                out.print(f"{task.name}: {verify_set(task, data)}", markup=False)
            except EcoDatumError as error:
                failures[task.key] = str(error)
            count(number, task.name)
    if failures:
        err.print("to fetch what is wrong again: ecodatum evalsets fetch")
    _raise(failures, "right", data)


def _tasks(chosen: str | None) -> tuple[Task, ...]:
    tasks = load_tasks("datacomp")
    return select(tasks, tuple(name.strip() for name in chosen.split(","))) if chosen else tasks


def _raise(failures: dict[str, str], wanted: str, data: Path) -> None:
    if failures:
        lines = "\n  ".join(f"{key}: {message.splitlines()[0]}" for key, message in failures.items())
        raise RunError(f"{len(failures)} sets are not {wanted}:\n  {lines}", where=data)
