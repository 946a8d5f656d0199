"""`ecodatum report`: an experiment as one page."""

from pathlib import Path
from typing import Annotated

import typer

from ecodatum.cli.console import err, out
from ecodatum.errors import ConfigError


def report(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a name in experiments/.")],
    work: Annotated[Path, typer.Option(help="The folder that the experiment was run in.")] = Path("runs"),
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to show, such as 0,1,2; by default the experiment's.")
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="The page to write; by default report.html beside the leaderboard."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The filter that each task is compared to; by default the first.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Write an experiment's report: one HTML page that needs no network, with all that is there so far.

    Leaderboard, score against dataset size, differences by task, training curves, what the labelling
    functions say and where the cut lies, galleries of what each filter keeps and drops, time, provenance.

    Example: `ecodatum report experiments/nano.yaml --seeds 0,1,2 --baseline clip_score --out nano.html`
    """
    from ecodatum.cli.options import seeds_of
    from ecodatum.pipeline.experiment import load_experiment
    from ecodatum.pipeline.graph import build_graph
    from ecodatum.report.page import write_report

    if out_file is not None and (out_file.is_dir() or not out_file.name):
        raise ConfigError("is a folder, not a file", where=f"--out {out_file}", todo="such as report.html")
    with err.status("looking at what is there"):
        graph = build_graph(load_experiment(experiment, seeds=seeds_of(seeds)), work, device=device)
        path = out_file or graph.folder / "report.html"
        write_report(graph, path, baseline=baseline)
    done = sum(run.evaluation.done() for run in graph.runs)
    if done < len(graph.runs):
        err.print(f"{done} of {len(graph.runs)} runs are finished; the page says what is missing")
    out.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
