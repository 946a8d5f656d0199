"""`ecodatum pool`: fetches a pool, and checks one."""

import multiprocessing
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table
from ecodatum.errors import PoolError, RunError

if TYPE_CHECKING:
    from ecodatum.pool.checking import Fault, Layout, PartReport

app = typer.Typer(no_args_is_help=True, help="Fetch a pool, or check one.", rich_markup_mode="markdown")

_SHOWN = 40


@app.command()
def check(
    pool: Annotated[Path, typer.Argument(help="A folder in CommonPool's layout.")],
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Do not read the shards, which takes long.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0: all in this process.")] = 2,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for 16 bytes a row; by default a temporary one.")
    ] = None,
) -> None:
    """Check a pool: layout, columns and their types, embeddings, uids, shards, images.

    All metadata and all shards are read. Prints a line a part, then each fault with its file, and ends
    with status 1 if there is any. A dead link is no fault: those are the missing images.

    Example: `ecodatum pool check POOL --jobs 8`
    """
    from ecodatum.pool.checking import check_layout, check_loose

    layout = check_layout(pool)
    with tempfile.TemporaryDirectory(prefix="ecodatum-check-", dir=scratch) as folder:
        files = [Path(folder, f"{number}.npy") for number in range(len(layout.parts))]
        reports = _check_parts(layout, files, shards=not metadata_only, jobs=jobs)
        faults = [*layout.faults, *(fault for report in reports for fault in report.faults)]
        faults += _repeats(layout, files)
    if not metadata_only:
        faults += check_loose(layout.loose)
    out.print(table(_table(reports), title=str(pool)))
    for fault in faults[:_SHOWN]:
        out.print(f"{fault.where}: {fault.what}", markup=False)
    if faults:
        more = f" (the first {_SHOWN} are shown)" if len(faults) > _SHOWN else ""
        raise PoolError(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}{more}", where=pool)
    out.print("no faults")


def _check_parts(layout: "Layout", files: Sequence[Path], *, shards: bool, jobs: int) -> "list[PartReport]":
    from ecodatum.pool.checking import check_part

    arguments = layout.parts, files, [shards] * len(files)
    if jobs == 0:
        return _shown(map(check_part, *arguments), len(files))
    try:  # not forked: arrow has threads by now
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
            return _shown(processes.map(check_part, *arguments), len(files))
    except BrokenProcessPool:
        raise RunError("a process was killed", where="--jobs", todo="for want of memory? use fewer") from None


def _shown(reports: "Iterable[PartReport]", total: int) -> "list[PartReport]":
    """Collect the reports, and show how many there are yet."""
    found = []
    with err.status(f"checking: 0 of {total} parts") as status:
        for report in reports:
            found.append(report)
            status.update(f"checking: {len(found)} of {total} parts")
    return found


def _repeats(layout: "Layout", files: Sequence[Path]) -> "list[Fault]":
    from ecodatum.pool.checking import Fault
    from ecodatum.pool.uniqueness import repeated_uids

    count, found = repeated_uids(files)
    faults = []
    for repeat in found:
        others = ", ".join(layout.parts[number].metadata.name for number in repeat.files[1:])
        first = layout.parts[repeat.files[0]].metadata
        faults.append(Fault(first, f"uid {repeat.uid} is there {len(repeat.files)} times: also in {others}"))
    if count > len(found):
        where = layout.parts[0].metadata.parent
        faults.append(Fault(where, f"{count - len(found)} more uids are there more than once"))
    return faults


def _table(reports: "Sequence[PartReport]") -> pd.DataFrame:
    rows = [
        {
            "part": report.name,
            "rows": f"{report.rows:,}",
            "shards": report.shards,
            "images": "-" if report.images is None else f"{report.images:,}",
            "missing": _missing(report.rows, report.images if report.shards else None),
            "npz": "yes" if report.embeddings else "no",
            "faults": len(report.faults),
        }
        for report in reports
    ]
    return pd.DataFrame(rows)


def _missing(rows: int, images: int | None) -> str:
    return "-" if images is None else f"{rows - images:,} ({1 - images / max(rows, 1):.1%})"
