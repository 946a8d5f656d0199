"""`ecodatum table`: the leaderboard beside published numbers, every task, and significance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecodatum.cli.console import err, out
from ecodatum.errors import ConfigError

if TYPE_CHECKING:
    from ecodatum.pipeline.graph import Graph
    from ecodatum.report.document import Document


def table(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a name in experiments/.")],
    work: Annotated[Path, typer.Option(help="The folder that the experiment ran in.")] = Path("runs"),
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to take, such as 0,1,2; by default the experiment's.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where it ran: cpu, cuda, or auto.")] = "auto",
    kind: Annotated[
        str | None,
        typer.Option("--format", help="terminal, markdown, csv, latex or html; by default as --out ends."),
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="A file to write: .txt, .md, .csv, .tex or .html.")
    ] = None,
    per_task: Annotated[bool, typer.Option("--per-task", help="A row for every task.")] = False,
    compare: Annotated[
        str | None, typer.Option(help="A filter's name: is the average of the others above its own?")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show also published filters that were not run.")
    ] = False,
) -> None:
    """Print the leaderboard of the runs that are finished, beside the published numbers.

    A row a filter: size, ImageNet, distribution shifts, VTAB, retrieval and average, mean ± standard
    deviation over seeds; what is not finished is named below. At a scale of DataComp's a filter that is
    published (results/published) gets the published average, the difference, and whether that is
    within the noise, and a second table the same for every score. --compare adds the difference of the
    averages to one filter, with its interval and p by a paired bootstrap over tasks and seeds. CSV has
    every digit. Without options it is also written to the work folder: leaderboard.md, leaderboard.csv.

    Example: `ecodatum table experiments/nano.yaml --seeds 0,1,2 --compare no_filter --out nano.tex`
    """
    from ecodatum.cli.options import seeds_of
    from ecodatum.pipeline.experiment import load_experiment
    from ecodatum.pipeline.graph import build_graph
    from ecodatum.report.document import leaderboard_document, task_document
    from ecodatum.report.leaderboard import leaderboard

    form = _format(kind, out_file)
    if per_task and (compare is not None or published):
        raise ConfigError("goes with neither --compare nor --published", where="--per-task")
    graph = build_graph(load_experiment(experiment, seeds=seeds_of(seeds)), work, device=device)
    if form == "terminal" and not (out_file or per_task or compare or published):
        show_leaderboard(graph)
        return
    board = leaderboard(graph)
    if per_task:
        document = task_document(board)
    else:
        document = leaderboard_document(board, published=published, baseline=compare)
    _give(document, form, out_file)


def show_leaderboard(graph: "Graph") -> None:
    """Print the leaderboard of an experiment's finished runs, and write it beside its logs."""
    from ecodatum.report.document import leaderboard_document, write_leaderboard
    from ecodatum.report.leaderboard import leaderboard

    document = leaderboard_document(leaderboard(graph))
    _print(document)
    files = write_leaderboard(document, graph.folder)
    err.print(f"written: {files[0]}\n         {files[1]}")


def _format(kind: str | None, out_file: Path | None) -> str:
    """Return the format that is asked for by name or by a file's suffix; raises ConfigError."""
    from ecodatum.report.document import FORMATS, SUFFIXES

    if kind is not None:
        if kind not in FORMATS:
            raise ConfigError(
                f"no such format: {kind!r}", where="--format", todo=f"use one of {', '.join(FORMATS)}"
            )
        return kind
    if out_file is None:
        return "terminal"
    if out_file.suffix not in SUFFIXES:
        raise ConfigError(
            f"ends in none of {', '.join(SUFFIXES)}", where=f"--out {out_file}", todo="or name the --format"
        )
    return SUFFIXES[out_file.suffix]


def _give(document: "Document", form: str, out_file: Path | None) -> None:
    from ecodatum.files import write_text
    from ecodatum.report.document import FORMATS

    if out_file is not None:
        if out_file.is_dir():
            raise ConfigError("is a folder, not a file", where=f"--out {out_file}")
        write_text(out_file, FORMATS[form](document))
        err.print(f"written: {out_file}")
    elif form == "terminal":
        _print(document)
    else:
        typer.echo(FORMATS[form](document), nl=False)


def _print(document: "Document") -> None:
    """Print tables: folded to the width of a terminal; elsewhere as wide as they are."""
    from ecodatum.report.formats import terminal

    for number, each in enumerate(document.tables):
        if number:
            out.print()
        for shown in terminal(each, width=out.width if out.is_terminal else None):
            out.print(shown)
