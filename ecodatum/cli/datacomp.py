"""`ecodatum datacomp`: DataComp's own scripts."""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table

app = typer.Typer(help="Install, check and run DataComp's own scripts, unmodified.", no_args_is_help=True)

Python = Annotated[
    str, typer.Option(help="The Python to run scripts with, such as one that has img2dataset.")
]


@app.command()
def install(
    into: Annotated[
        Path | None, typer.Option(help="The folder to clone into, by default in ~/.cache.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="An address or a path that git can clone.")] = None,
) -> None:
    """Clone DataComp at the commit that this package was tested with.

    Not needed where DATACOMP_HOME names a checkout. For machines without a network, install on one that
    has it, and copy the folder.

    Example: `ecodatum datacomp install --into /shared/datacomp`
    """
    from ecodatum.datacomp.checkout import HOME_VARIABLE, SOURCE, default_folder
    from ecodatum.datacomp.checkout import install as clone

    with err.status("cloning"):
        done = clone(into or default_folder(), source or SOURCE)
    out.print(f"{done.path}: DataComp at {done.commit}")
    if into is not None:
        err.print(f"to use it: export {HOME_VARIABLE}={done.path}")


@app.command()
def check(
    python: Python = sys.executable,
    aliases: Annotated[bool, typer.Option("--aliases", help="List what the layer changes, and why.")] = False,
) -> None:
    """Tell which of DataComp's scripts run here, and why another doesn't.

    Each is started with `--help`, so that it imports all that it uses. Exit status 1 when one doesn't.

    Example: `ecodatum datacomp check --aliases`
    """
    from ecodatum.datacomp.checkout import COMMIT, find_checkout
    from ecodatum.datacomp.layer.aliases import ALIASES
    from ecodatum.datacomp.scripts import check as check_scripts

    checkout = find_checkout()
    state = "as tested" if checkout.pinned else f"not the tested, unmodified {COMMIT}"
    out.print(f"{checkout.path}: commit {checkout.commit or 'unknown'} ({state})")
    with err.status("starting the scripts"):
        checked = check_scripts(checkout, python)
    rows = [(c.script, "yes" if c.works else "no", c.note) for c in checked]
    out.print(table(pd.DataFrame(rows, columns=["Script", "Runs", "Note"])))
    if aliases:
        listed = [(alias.module, alias.versions, alias.reason) for alias in ALIASES]
        out.print(table(pd.DataFrame(listed, columns=["Module", "For", "Why"])))
    if not all(c.works for c in checked):
        err.print("what is missing: pip install 'ecodatum\\[datacomp]'")
        raise typer.Exit(1)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    script: Annotated[str, typer.Argument(help="One of DataComp's scripts, such as evaluate.py.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, after --.")] = None,
    python: Python = sys.executable,
) -> None:
    """Run one of DataComp's scripts with its own arguments; ends with its exit status.

    Example: `ecodatum datacomp run evaluate.py -- --train_output_dir OUT/small_scale --data_dir EVALSETS`
    """
    from ecodatum.datacomp.checkout import find_checkout
    from ecodatum.datacomp.scripts import start

    checkout = find_checkout()
    if not checkout.pinned:
        err.print(f"{checkout.path} is not the tested, unmodified commit")
    process = start(checkout, script, arguments or [], python=python)
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:  # the script has been interrupted too, and ends in its own way
            continue
