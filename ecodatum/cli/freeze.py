"""`ecodatum freeze` and `ecodatum verify`: a run in one file, and whether it still follows from it."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ecodatum.cli.console import StageProgress, err, out, table

Work = Annotated[Path, typer.Option(help="The work folder that the run was made in.")]


def freeze(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a name in experiments/.")],
    run: Annotated[str, typer.Argument(help="The run: its filter and seed, FILTER-seedN.")],
    work: Work = Path("runs"),
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default RUN.frozen.json.")
    ] = None,
    device: Annotated[str, typer.Option(help="What the run was made on: cpu, cuda, or auto.")] = "auto",
) -> None:
    """Write all that it takes to make a run again into one file.

    The experiment with its recipe, scale and tasks written out, seeds, versions of all packages, the
    commit, fingerprints of the pool and of every step, sha256 of assets, subset, checkpoint and results,
    and the scores. `ecodatum verify` compares it with what is there.

    Example: `ecodatum freeze experiments/nano.yaml ecodatum-seed0 --work runs`
    """
    from ecodatum.cli.options import seeds_of_run
    from ecodatum.freezing.frozen import freeze as freeze_run
    from ecodatum.pipeline.experiment import load_experiment
    from ecodatum.pipeline.graph import build_graph

    loaded = load_experiment(experiment, seeds=seeds_of_run(run))
    with err.status("reading"):
        frozen = freeze_run(build_graph(loaded, work, device=device), run)
    path = out_file or Path(f"{run}.frozen.json")
    frozen.write(path)
    state = frozen.software.commit or "no checkout"
    out.print(f"{path}: {len(frozen.units)} steps, {len(frozen.assets)} assets, commit {state}")


def verify(
    frozen: Annotated[Path, typer.Argument(help="What `ecodatum freeze` wrote.")],
    work: Work = Path("runs"),
    pool: Annotated[Path | None, typer.Option(help="Where the pool is now, if it has moved.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the evaluation sets are now, if they have moved.")
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option("--curate-into", help="Curate again, in this folder, and compare the subset."),
    ] = None,
    unpack: Annotated[
        Path | None, typer.Option(help="Write the experiment with all its files into this folder, and end.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, for --curate-into.")] = 2,
) -> None:
    """Tell whether a frozen run's results still follow from what it was frozen with, and what differs.

    Compared are the pool, the assets, each step's fingerprint and manifest, the files' sha256, and the
    scores. Other versions of packages are named, and are no difference. Exit status 1 when one is found.

    Example: `ecodatum verify ecodatum-seed0.frozen.json --work runs --curate-into again`

    Example: `ecodatum verify ecodatum-seed0.frozen.json --unpack thawed`, then
    `ecodatum run thawed/experiment.yaml` makes the run again
    """
    from ecodatum.freezing.frozen import read_frozen
    from ecodatum.freezing.frozen import unpack as unpack_run
    from ecodatum.freezing.verification import curate_again, other_software
    from ecodatum.freezing.verification import verify as verify_run

    read = read_frozen(frozen)
    if unpack is not None:
        out.print(f"{unpack_run(read, unpack, pool=pool, data=data)}")
        return
    with err.status("comparing"):
        found = [*verify_run(read, work, pool=pool, data=data)]
    if again is not None:
        found.append(
            curate_again(read, again.resolve(), jobs=jobs, reporter=StageProgress, pool=pool, data=data)
        )
    rows = [(one.name, "no" if one.differences else "yes", one.said) for one in found]
    out.print(table(pd.DataFrame(rows, columns=["What", "Same", "Because"]), title=read.run))
    for line in other_software(read):
        err.print(f"software: {line}", markup=False)
    if any(one.differences for one in found):
        raise typer.Exit(1)
