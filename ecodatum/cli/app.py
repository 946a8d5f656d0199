"""The commands of `ecodatum`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ecodatum import __version__
from ecodatum.cli import assets, datacomp, evalsets, labels, pool
from ecodatum.cli.centroids import centroids
from ecodatum.cli.console import StageProgress, err, out, table
from ecodatum.cli.evaluate import evaluate
from ecodatum.cli.freeze import freeze, verify
from ecodatum.cli.jobs import cancel, logs, retry, status
from ecodatum.cli.options import changes_of, seeds_of
from ecodatum.cli.report import report
from ecodatum.cli.reshard import reshard
from ecodatum.cli.schema import schema
from ecodatum.cli.submit import submit
from ecodatum.cli.table import show_leaderboard
from ecodatum.cli.table import table as table_command
from ecodatum.cli.train import train
from ecodatum.cli.tune import tune
from ecodatum.errors import ConfigError, EcoDatumError

app = typer.Typer(
    name="ecodatum",
    help="Curate CommonPool, train CLIP through open_clip, evaluate zero-shot, and make the table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Work = Annotated[Path, typer.Option(help="Folder for everything that is made; shared by all experiments.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes at a time on this machine.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds to run, such as 0,1,2; by default the experiment's.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Cluster = Annotated[
    str | None, typer.Option(help="A cluster profile's YAML file, or its name in slurm/.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a value of the recipe: KEY=VALUE, such as rules.0.at_least=0.28."),
]


def main() -> None:
    """Run the command line; a user's error ends in one message and exit status 1."""
    try:
        status = app(standalone_mode=False)
        if isinstance(status, int):  # what typer.Exit was raised with
            sys.exit(status)
    except EcoDatumError as error:
        err.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted; give the same command again to go on")
        sys.exit(130)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            sys.exit(error.exit_code)
        raise


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def run(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a name in experiments/.")],
    work: Work = Path("runs"),
    jobs: Jobs = 2,
    seeds: Seeds = None,
    device: Device = "auto",
    wandb: Annotated[
        str | None, typer.Option(help="offline, online or off; by default the experiment's.")
    ] = None,
    cluster: Cluster = None,
    watch: Annotated[bool, typer.Option("--watch", help="With --cluster: wait for the end.")] = False,
) -> None:
    """Run an experiment: curate, train, evaluate, and print its leaderboard.

    What is done already is not done again; interrupted at any moment, the same command goes on. With
    --cluster all is submitted to Slurm at once, and the command returns; see `status`, `logs`, `cancel`.

    Example: `ecodatum run experiments/nano.yaml --seeds 0,1,2 --cluster slurm/generic.yaml`
    """
    if cluster is not None:
        _run_on(cluster, experiment, work, seeds=seeds_of(seeds), device=device, wandb=wandb, watch=watch)
        return
    if watch:
        raise ConfigError("is for --cluster", where="--watch")
    from ecodatum.cli.curation import doubtful, unscored
    from ecodatum.pipeline.graph import STAGES, build_graph
    from ecodatum.pipeline.ledger import write_units
    from ecodatum.pipeline.run import run_stages
    from ecodatum.report.tracking import STAGE, tracking_units

    loaded = _experiment(experiment, seeds, wandb)
    with err.status("planning"):
        graph = build_graph(loaded, work, device=device)
    units = (*graph.units, *tracking_units(graph))
    todo = [unit for unit in units if not unit.done()]
    write_units(graph.folder, units)
    err.print(f"{loaded.name}: {len(units)} units, {len(units) - len(todo)} done before, {len(todo)} to run")
    if not todo:
        err.print("nothing to do: everything is done already")
    try:
        run_stages(units, STAGES, jobs=jobs, folder=graph.folder, reporter=StageProgress())
    finally:  # samples without a score may be why a stage failed
        for line in (*unscored(todo), *doubtful(todo)):
            err.print(line)
    try:
        run_stages(units, (STAGE,), jobs=jobs, folder=graph.folder, reporter=StageProgress())
    finally:  # the table is there whatever became of tracking
        show_leaderboard(graph)


def plan(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a name in experiments/.")],
    work: Work = Path("runs"),
    seeds: Seeds = None,
    device: Device = "auto",
    units: Annotated[bool, typer.Option("--units", help="List every unit, not only the stages.")] = False,
    cluster: Cluster = None,
) -> None:
    """Show what an experiment would run, what is done already, and what its filters share. Runs nothing.

    Shared are the units that several filters use: they run once. With --units each unit is listed with the
    filters that use it. With --cluster: tasks, GPU hours and disk, before anything is submitted.

    Example: `ecodatum plan experiments/nano_ablation.yaml --units`
    """
    if cluster is not None:
        from ecodatum.cli.jobs import cost_table

        out.print(table(cost_table(experiment, work, cluster, seeds_of(seeds))))
        return
    from ecodatum.cli.plan import sharing_line, stage_table, unit_table
    from ecodatum.pipeline.graph import build_graph
    from ecodatum.pipeline.sharing import unit_users
    from ecodatum.report.tracking import tracking_units

    graph = build_graph(_experiment(experiment, seeds, None), work, device=device)
    every = (*graph.units, *tracking_units(graph))
    err.print(
        f"pool: {graph.pool.rows:,} rows in {len(graph.pool.parts)} parts; scale {graph.scale.name}"
        f" ({'comparable with DataComp' if graph.scale.comparable else 'not comparable with DataComp'});"
        f" {len(graph.tasks)} tasks; {len(graph.runs)} trainings"
    )
    users = unit_users(graph)
    out.print(table(unit_table(every, users) if units else stage_table(every, users)))
    err.print(sharing_line(users))


def curate(
    recipe: Annotated[str, typer.Argument(help="A recipe's YAML file, or its name in baselines/.")],
    pool: Annotated[Path, typer.Option(help="A folder in CommonPool's layout.")],
    out_file: Annotated[Path, typer.Option("--out", help="The subset to write: SUBSET.npy.")],
    work: Work = Path("runs"),
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0: all in this process.")] = 0,
    device: Device = "auto",
    changes: Set = None,
) -> None:
    """Apply one filter to a pool and write its subset, the npy file that DataComp defines.

    Scores are kept in the work folder and shared by all filters. For EcoDatum the summary of the
    labelling functions is printed.

    Example: `ecodatum curate clip_score --pool POOL --out clip.npy --set rules.0.at_least.top=0.2`
    """
    from ecodatum.cli.curation import agreement_table, curate_pool, distribution_line, lf_table

    if out_file.is_dir() or not out_file.name:
        raise ConfigError("is a folder, not a file", where=f"--out {out_file}", todo="such as subset.npy")
    done = curate_pool(
        recipe, pool, out_file, work=work, jobs=jobs, device=device, overrides=changes_of(changes)
    )
    if done.summary is not None:
        out.print(table(lf_table(done.summary), title="Labelling functions"))
    if done.diagnostics is not None:
        out.print(table(agreement_table(done.diagnostics), title="Agreement where both vote"))
        out.print(distribution_line(done.diagnostics))
    for line in done.notes:
        err.print(line)
    out.print(f"{out_file}: {done.kept:,} of {done.rows:,} samples ({done.kept / done.rows:.1%})")


def _run_on(
    cluster: str,
    experiment: str,
    work: Path,
    *,
    seeds: tuple[int, ...] | None,
    device: str,
    wandb: str | None,
    watch: bool,
) -> None:
    from ecodatum.cli.jobs import submit_experiment

    if device != "auto":
        raise ConfigError("the cluster profile says it: `device`", where="--device", todo="leave it out")
    graph = submit_experiment(experiment, work, cluster, seeds=seeds, wandb=wandb, watch=watch)
    if watch:
        show_leaderboard(graph)


def _experiment(name: str, seeds: str | None, wandb: str | None) -> Any:
    from ecodatum.pipeline.experiment import load_experiment

    return load_experiment(name, seeds=seeds_of(seeds), wandb=wandb)


#: All commands, in the order in which a newcomer meets them.
_COMMANDS: dict[str, dict[str, Any]] = {
    "Experiments": {
        "plan": plan,
        "run": run,
        "status": status,
        "logs": logs,
        "cancel": cancel,
        "retry": retry,
        "table": table_command,
        "report": report,
    },
    "Results that stand": {"submit": submit, "freeze": freeze, "verify": verify},
    "Piece by piece": {
        "curate": curate,
        "reshard": reshard,
        "train": train,
        "evaluate": evaluate,
        "centroids": centroids,
        "tune": tune,
        "labels": labels.app,
    },
    "What they need": {
        "pool": pool.app,
        "assets": assets.app,
        "evalsets": evalsets.app,
        "datacomp": datacomp.app,
        "schema": schema,
    },
}

for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(name=_name, rich_help_panel=_panel)(_command)
