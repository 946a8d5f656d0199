"""`ecodatum run --cluster`, `status`, `logs`, `cancel` and `retry`: experiments as jobs of Slurm."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table
from ecodatum.errors import ConfigError, EcoDatumError, RunError

if TYPE_CHECKING:
    from ecodatum.launch.profile import Profile
    from ecodatum.pipeline.graph import Graph
    from ecodatum.pipeline.status import Status, UnitState
    from ecodatum.pipeline.units import Unit

Work = Annotated[Path, typer.Option(help="The folder that the experiment was run in.")]
Name = Annotated[str, typer.Argument(help="An experiment's YAML file, or its name.")]
_SHOWN = 20


def submit_experiment(
    experiment: str,
    work: Path,
    cluster: str,
    *,
    seeds: tuple[int, ...] | None,
    wandb: str | None,
    watch: bool,
) -> "Graph":
    """Submit what is missing of an experiment, and with `watch` wait for its end."""
    from ecodatum.content import find
    from ecodatum.pipeline.submission import submit

    graph, units, profile = cluster_graph(experiment, work, cluster, seeds=seeds, wandb=wandb, remember=True)
    command = {
        "experiment": str(find(experiment, "experiments")),
        "cluster": str(find(cluster, "slurm")),
        "seeds": seeds,
        "wandb": wandb,
    }
    packed = submit(
        units,
        profile,
        graph.folder,
        command,
        told=_tell,
    )
    err.print(
        f"{graph.experiment.name}: {len(units)} units, {packed.done} done before,"
        f" {len(packed.kept)} under way, {packed.units} submitted in {packed.tasks} tasks"
    )
    if watch:
        name = graph.experiment.name
        follow(graph.folder, todo=f"`ecodatum logs {name}` shows why; mend it, and `ecodatum retry {name}`")
    elif packed.units or packed.kept:
        err.print(f"see how it goes: ecodatum status {graph.experiment.name} --work {work}")
    return graph


def cluster_graph(
    experiment: str,
    work: Path,
    cluster: str,
    *,
    seeds: tuple[int, ...] | None,
    wandb: str | None,
    remember: bool,
) -> "tuple[Graph, list[Unit], Profile]":
    """Return the graph of an experiment for a cluster, its units with those of tracking, and the profile."""
    from ecodatum.pipeline.experiment import load_experiment
    from ecodatum.pipeline.graph import build_graph
    from ecodatum.pipeline.placement import Placement
    from ecodatum.report.tracking import tracking_units

    profile = _profile(cluster)
    placement = Placement(profile.device, profile.resources("train").world_size)
    loaded = load_experiment(experiment, seeds=seeds, wandb=wandb)
    with err.status("planning"):
        graph = build_graph(loaded, work, device=placement)
    if remember:
        placement.remember(graph.folder)
    return graph, [*graph.units, *tracking_units(graph)], profile


def run_on_cluster(units: "Sequence[Unit]", cluster: str, folder: Path) -> None:
    """Submit units that are no experiment's, and wait for their end; raises RunError if not all are done."""
    from ecodatum.pipeline.submission import submit

    packed = submit(units, _profile(cluster), folder, {}, told=_tell)
    err.print(f"{len(units)} units, {packed.done} done before, {packed.units} submitted")
    follow(folder, todo="mend the cause and give the same command again: what is done is not done again")


def _profile(cluster: str) -> "Profile":
    from ecodatum.launch.profile import load_profile
    from ecodatum.pipeline import fetch_pool, graph
    from ecodatum.report import tracking

    stages = {*graph.STAGES, "score_gpu", tracking.STAGE, fetch_pool.STAGE}
    return load_profile(cluster, stages=frozenset(stages))


def _tell(stage: str, job: str, tasks: int) -> None:
    err.print(f"{stage}: job {job}, {tasks} task{'s' * (tasks != 1)}")


def follow(folder: Path, *, todo: str, every: float = 5.0) -> None:
    """Show how units go until none is queued; raises RunError, with what is `todo`, if not all are done."""
    from ecodatum.pipeline.status import read_status

    shown = ""
    while True:
        status = read_status(folder)
        line = _in_a_line(status)
        if line != shown:
            err.print(line)
            shown = line
        if not status.queued and status.asked:
            break
        time.sleep(every)
    bad = status.of("failed", "blocked", "cancelled", "pending")
    if bad:
        lines = [f"  {unit.unit.stage} {unit.unit.name}: {unit.reason}" for unit in bad[:_SHOWN]]
        raise RunError(
            f"{len(bad)} units are not done\n" + "\n".join(lines),
            todo=todo,
        )


def _in_a_line(status: "Status") -> str:
    stages = []
    for stage, counts in status.counts().items():
        total = sum(counts.values())
        notable = [f"{counts[s]} {s}" for s in ("running", "failed", "blocked", "cancelled") if counts[s]]
        if notable or counts["done"] < total:
            stages.append(
                f"{stage} {counts['done']}/{total}" + (f" ({', '.join(notable)})" if notable else "")
            )
    return " · ".join(stages) or "everything is done"


def status(
    experiment: Annotated[
        str | None, typer.Argument(help="An experiment's YAML file, or its name; by default all.")
    ] = None,
    work: Work = Path("runs"),
    units: Annotated[bool, typer.Option("--units", help="List every unit, not only the stages.")] = False,
) -> None:
    """Show how far experiments are: pending, running, done, failed, blocked, cancelled; and why.

    What the work folder holds is believed first, so that this works too when no job runs any more, and
    when Slurm has forgotten it. A blocked unit needs one that is not done.

    Example: `ecodatum status nano`
    """
    from ecodatum.pipeline.status import read_status

    if experiment is None:
        out.print(table(_experiments(work)))
        return
    folder = _folder(experiment, work)
    found = read_status(folder)
    out.print(table(_unit_rows(found) if units else _stage_rows(found)))
    if not found.asked:
        err.print("Slurm cannot be asked: what is pending or running may be neither")
    bad = found.of("failed", "blocked", "cancelled")
    for unit in bad[:_SHOWN]:
        first = unit.reason.splitlines()[0] if unit.reason else ""
        job = f" (job {unit.task})" if unit.task else ""
        err.print(f"{unit.state}: {unit.unit.stage} {unit.unit.name}{job}: {first}")
        if unit.state != "blocked":
            err.print(f"  {unit.log}")
    if len(bad) > _SHOWN:
        err.print(f"… and {len(bad) - _SHOWN} more: ecodatum status {folder.name} --units")


def _experiments(work: Path) -> pd.DataFrame:
    from ecodatum.pipeline.status import STATES, read_status

    folders = sorted(path.parent for path in work.glob("*/units.json"))
    if not folders:
        raise RunError(
            "no experiment was run here", where=work, todo="see `ecodatum run --help`, or give --work"
        )
    rows = []
    for folder in folders:
        counts = read_status(folder).counts().values()
        rows.append([folder.name, *(sum(count[state] for count in counts) for state in STATES)])
    return pd.DataFrame(rows, columns=["Experiment", *map(str.capitalize, STATES)])


def _stage_rows(found: "Status") -> pd.DataFrame:
    from ecodatum.pipeline.status import STATES

    counts = found.counts()
    states = [s for s in STATES if s in _ALWAYS or any(count[s] for count in counts.values())]
    rows = []
    for stage, count in counts.items():
        mine = [unit for unit in found.units if unit.unit.stage == stage]
        jobs = sorted({unit.task.partition("_")[0] for unit in mine if unit.task}, key=int)
        took, last = sum(unit.seconds for unit in mine), max((unit.time for unit in mine), default="")
        span = jobs[0] if len(jobs) == 1 else f"{jobs[0]} to {jobs[-1]}" if jobs else "-"
        rows.append([stage, *(count[s] for s in states), _duration(took), _when(last), span])
    return pd.DataFrame(rows, columns=["Stage", *map(str.capitalize, states), "Took", "Last news", "Jobs"])


#: States that are shown also where no unit is in them.
_ALWAYS = ("pending", "running", "done", "failed")


def _when(time: str) -> str:
    """Return a manifest's time as the clock here shows it."""
    return f"{datetime.fromisoformat(time).astimezone():%m-%d %H:%M}" if time else "-"


def _unit_rows(found: "Status") -> pd.DataFrame:
    rows = [
        [u.unit.stage, u.unit.name, u.state, _duration(u.seconds), _when(u.time), u.task or "-", _first(u)]
        for u in found.units
    ]
    return pd.DataFrame(rows, columns=["Stage", "Unit", "State", "Took", "Last news", "Task", "Why"])


def _first(unit: "UnitState") -> str:
    return unit.reason.splitlines()[0] if unit.reason else ""


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def logs(
    experiment: Name,
    unit: Annotated[str | None, typer.Argument(help="A unit, such as train/no_filter-seed0.")] = None,
    work: Work = Path("runs"),
    lines: Annotated[int, typer.Option(min=1, help="How many of a log's last lines.")] = 30,
) -> None:
    """Show the end of the logs of the units that failed, or of one unit.

    Example: `ecodatum logs nano train/no_filter-seed0 --lines 100`
    """
    from ecodatum.pipeline.ledger import unit_id
    from ecodatum.pipeline.status import read_status

    folder = _folder(experiment, work)
    found = read_status(folder)
    if unit is None:
        chosen = found.of("failed", "cancelled")[:_SHOWN]
        if not chosen:
            err.print("nothing failed; name a unit to see its log (ecodatum status --units lists them)")
    else:
        chosen = [u for u in found.units if unit in {unit_id(u.unit), u.unit.name}]
        if not chosen:
            raise ConfigError(
                "no such unit", where=unit, todo=f"ecodatum status {folder.name} --units lists them"
            )
    for state in chosen:
        _show_log(state, state.log or state.unit.log, lines)


def _show_log(state: "UnitState", log: Path, lines: int) -> None:
    err.print(f"[bold]{state.unit.stage} {state.unit.name}[/bold] {state.state}  {log}")
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        err.print(f"  cannot be read: {error.strerror}")
        return
    for line in text.splitlines()[-lines:]:
        out.print(line, markup=False)


def cancel(experiment: Name, work: Work = Path("runs")) -> None:
    """Cancel what an experiment has in the queue. What is done stays; `retry` goes on.

    Example: `ecodatum cancel nano`
    """
    from ecodatum.pipeline.submission import cancel_all

    count = cancel_all(_folder(experiment, work))
    err.print(f"{count} tasks cancelled" if count else "nothing of it is in the queue")


def retry(
    experiment: Name,
    work: Work = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="Wait for the end, and show how it goes.")] = False,
) -> None:
    """Submit what is not done and not in the queue again, as it was submitted the last time.

    Example: `ecodatum retry nano --watch`
    """
    from ecodatum.pipeline.ledger import read_submissions

    folder = _folder(experiment, work)
    command: Mapping[str, Any] | None = None
    for submission in read_submissions(folder):
        command = submission.command
    if command is None:
        raise RunError("was never sent to a cluster", where=folder, todo="ecodatum run … --cluster PROFILE")
    seeds = command["seeds"]
    submit_experiment(
        command["experiment"],
        work,
        command["cluster"],
        seeds=None if seeds is None else tuple(seeds),
        wandb=command["wandb"],
        watch=watch,
    )


def _folder(experiment: str, work: Path) -> Path:
    """Return the folder of an experiment that is given by its name or its file; raises an EcoDatumError."""
    from ecodatum.pipeline.experiment import load_experiment

    work = work.expanduser().resolve()
    if (work / experiment / "units.json").is_file():
        return work / experiment
    try:
        folder = work / load_experiment(experiment).name
    except EcoDatumError as error:
        known = ", ".join(sorted(path.parent.name for path in work.glob("*/units.json")))
        raise RunError(
            "no such experiment here",
            where=f"{experiment} in {work}",
            todo=f"there are: {known}" if known else "no experiment was run in this folder; give --work",
        ) from error
    return folder


def cost_table(experiment: str, work: Path, cluster: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    """Return what submitting an experiment to a cluster would cost, a row per stage and in all."""
    from ecodatum.pipeline.estimates import stage_costs
    from ecodatum.pipeline.submission import pack_units

    _, units, profile = cluster_graph(experiment, work, cluster, seeds=seeds, wandb=None, remember=False)
    costs = stage_costs(units, pack_units(units, profile, {}), profile)
    rows = [
        [
            c.stage,
            c.units,
            c.tasks,
            c.arrays,
            _hours(c.gpu_hours_likely),
            f"{c.gpu_hours_most:,.1f}",
            _size(c.bytes),
        ]
        for c in costs
    ]
    likely = [c.gpu_hours_likely for c in costs if c.gpu_hours_most]
    known = [hours for hours in likely if hours is not None]
    rows.append(
        [
            "in all",
            sum(c.units for c in costs),
            sum(c.tasks for c in costs),
            sum(c.arrays for c in costs),
            _hours(sum(known) if len(known) == len(likely) else None),
            f"{sum(c.gpu_hours_most for c in costs):,.1f}",
            _size(sum(c.bytes for c in costs)),
        ]
    )
    columns = ["Stage", "To run", "Tasks", "Arrays", "GPU hours, likely", "at most", "Disk, about"]
    return pd.DataFrame(rows, columns=columns)


def _hours(hours: float | None) -> str:
    return "?" if hours is None else f"{hours:,.1f}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
