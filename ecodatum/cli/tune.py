"""`ecodatum tune`: searches a recipe's thresholds on labelled samples, and writes the recipe it finds."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import pandas as pd
import typer
import yaml

from ecodatum.cli.console import err, out, table
from ecodatum.errors import ConfigError

if TYPE_CHECKING:
    from ecodatum.cli.tune_task import Task
    from ecodatum.curate.knobs import Choice
    from ecodatum.curate.search import Found, Sampler
    from ecodatum.curate.tuning import Bench, F1At, Labelled

_TOP: Final = "0.2,0.3,0.4,0.5,0.6,0.7,0.8"
_TAILS: Final = "0.005,0.01,0.02,0.05,0.1,0.2"
_MARGINS: Final = "0,0.05,0.1,0.2,0.4"
_ALPHAS: Final = "1,0.1,0.1,0.1"


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe's YAML file, or its name in baselines/.")],
    pool: Annotated[Path, typer.Option(help="The pool that the recipe is to filter.")],
    labels: Annotated[
        Path, typer.Option(help="A labelled set (a folder), or a CSV of uid,label for samples of the pool.")
    ],
    out_file: Annotated[Path, typer.Option("--out", help="The recipe to write: NEW.yaml.")],
    sampler: Annotated[
        str, typer.Option(help="tpe, or enumerate: every combination once, as in the paper's Algorithm 1.")
    ] = "tpe",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the sampler tpe.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample, the labels' halves, the search.")] = 0,
    functions: Annotated[
        str | None, typer.Option(help="Tune these labelling functions only, such as clip,hclip.")
    ] = None,
    alphas: Annotated[
        str, typer.Option(help="Weights of F1, overlap, conflict and coverage in the composite metric.")
    ] = _ALPHAS,
    f1_at: Annotated[
        str,
        typer.Option(help="Predicted good: cut, what the recipe would keep; half, P(SELECT) above 0.5."),
    ] = "cut",
    top: Annotated[
        str, typer.Option(help="Candidates of a boundary: the scores that these shares of the pool reach.")
    ] = _TOP,
    tails: Annotated[
        str, typer.Option(help="Candidates where a function only rejects: the shares that it would reject.")
    ] = _TAILS,
    margins: Annotated[
        str, typer.Option(help="Candidates of a margin, in interquartile ranges of the score.")
    ] = _MARGINS,
    sample: Annotated[int, typer.Option(min=100, help="Rows of the pool that trials vote on.")] = 100_000,
    jobs: Annotated[int, typer.Option(min=1, help="Workers that share the study.")] = 1,
    work: Annotated[Path, typer.Option(help="Folder for scores and studies.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Set a value of the recipe first: KEY=VALUE.")
    ] = None,
) -> None:
    """Search the thresholds and margins of a recipe's labelling functions.

    Maximises the paper's composite metric (Eq. 3): F1 on one half of the labels, and overlap, conflict and
    coverage of the votes on a sample of the pool. The other half of the labels is only looked at in the end.
    Scores are computed once; a trial takes milliseconds. The study is kept in the work folder: interrupted,
    the same command goes on, and with more --trials it continues. One worker with the same seed finds the
    same recipe. Writes NEW.yaml, and beside it the history (NEW.history.csv) and a plot (NEW.history.svg).

    Example: `ecodatum tune ecodatum --pool POOL --labels LABELS --out tuned.yaml --trials 500`
    """
    from ecodatum.cli.options import changes_of
    from ecodatum.cli.tune_task import Task, prepared
    from ecodatum.curate.knobs import Candidates
    from ecodatum.curate.recipe import load_recipe
    from ecodatum.curate.search import Plan
    from ecodatum.curate.tuning import Alphas

    if out_file.suffix != ".yaml":
        raise ConfigError("must end in .yaml", where=f"--out {out_file}")
    if sampler not in ("tpe", "enumerate"):
        raise ConfigError(f"no such sampler: {sampler!r}", where="--sampler", todo="use tpe or enumerate")
    loaded = load_recipe(recipe, overrides=changes_of(changes))
    if not loaded.labelling_functions:
        raise ConfigError("has no labelling functions to tune", where=loaded.name)
    weights = _numbers("--alphas", alphas)
    if len(weights) != 4:
        raise ConfigError("needs four numbers", where=f"--alphas {alphas}", todo=f"such as {_ALPHAS}")
    candidates = Candidates(
        _shares("--top", top),
        _shares("--tails", tails),
        _numbers("--margins", margins),
    )
    if f1_at not in ("cut", "half"):
        raise ConfigError(f"no such cut: {f1_at!r}", where="--f1-at", todo="use cut or half")
    plan = Plan(cast("Sampler", sampler), trials, seed)
    names = tuple(functions.split(",")) if functions else ()
    task = Task(loaded, candidates, Alphas(*weights), cast("F1At", f1_at), plan, names, Path())
    task = prepared(task, pool, labels, sample, work.expanduser().resolve(), device)
    bench, labelled, held_out = task.open()
    started = time.monotonic()
    _search(task, bench, labelled, jobs)
    _finish(task, bench, labelled, held_out, out_file, labels, time.monotonic() - started)


def _search(task: "Task", bench: "Bench", labelled: "Labelled", jobs: int) -> None:
    """Search in this process, or in `jobs` of their own that share the study."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ecodatum.cli.tune_task import search_apart
    from ecodatum.curate.search import check_plan, count_done, search

    total = check_plan(task.plan, bench)
    columns = TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        shown = bar.add_task("trials", total=total)

        def told(done: int) -> None:
            bar.update(shown, completed=done)

        if jobs == 1:
            search(bench, labelled, task.folder, task.plan, told=told)
            return
        search_apart(task, jobs, lambda: told(count_done(task.folder)))


def _finish(
    task: "Task",
    bench: "Bench",
    labelled: "Labelled",
    held_out: "Labelled",
    out_file: Path,
    labels: Path,
    seconds: float,
) -> None:
    """Write the recipe, the history and the plot, and print old against new."""
    from ecodatum.curate.search import best
    from ecodatum.files import replacing, write_text
    from ecodatum.report.search_plot import plot_search

    found = best(bench, task.folder, task.plan)
    text = _recipe_text(task, bench, found, out_file, labels)
    history = out_file.with_suffix(".history.csv")
    write_text(out_file, text)
    with replacing(history) as temporary:
        found.history.to_csv(temporary, index=False)
    plot_search(found.history, history.with_suffix(".svg"), title=f"{task.recipe.name}: threshold search")
    out.print(table(_comparison(bench, found, labelled, held_out), title="Composite metric"))
    moved = _moved(bench, found.choice)
    out.print(table(moved, title="Values") if len(moved) else "no other values are better: nothing changed")
    for line in _doubts(bench, found.choice):
        err.print(line)
    spent = found.history["seconds"].median() * 1000
    err.print(f"{len(found.history):,} trials in the study, a median of {spent:.0f} ms; {seconds:.1f} s now")
    err.print(f"written: {out_file}\n         {history}\n         {history.with_suffix('.svg')}")


def _recipe_text(task: "Task", bench: "Bench", found: "Found", out_file: Path, labels: Path) -> str:
    """Return the tuned recipe as YAML, which says where its values are from."""
    plan, old = task.plan, task.recipe
    how = (
        f"tuned by `ecodatum tune` on {labels.name}: {plan.sampler}, {len(found.history)} trials,"
        f" seed {plan.seed}; M = {found.measure.objective:.4f}, F1 = {found.measure.f1:.4f}"
    )
    name = "".join(c if c.isalnum() or c in "_.+-" else "_" for c in out_file.stem)
    recipe = bench.tuned(found.choice, name=name, title=f"{old.title}, tuned", source=f"{old.source}; {how}")
    document = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _comparison(bench: "Bench", found: "Found", labelled: "Labelled", held_out: "Labelled") -> pd.DataFrame:
    """Return a row for the old and the new values each: M and its terms, and F1 on the half held out."""
    rows = []
    for name, choice in (("as given", bench.start), ("tuned", found.choice)):
        seen, unseen = bench.measure(choice, labelled), bench.measure(choice, held_out)
        terms = [seen.objective, seen.f1, unseen.f1, unseen.precision, unseen.recall]
        rows.append([name, *terms, seen.overlap, seen.conflict, seen.coverage])
    columns = ["", "M", "F1", "F1 held out", "precision", "recall", "overlap", "conflict", "coverage"]
    return pd.DataFrame(rows, columns=columns)


def _moved(bench: "Bench", choice: "Choice") -> pd.DataFrame:
    """Return a row for each value that is not what it was."""
    rows = [
        [knob.name, _shown(knob.values[knob.start]), _shown(knob.values[position])]
        for knob, position in zip(bench.knobs, choice, strict=True)
        if position != knob.start
    ]
    return pd.DataFrame(rows, columns=["value", "as given", "tuned"])


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"top {value.top:g}"


def _doubts(bench: "Bench", choice: "Choice") -> Sequence[str]:
    from ecodatum.cli.curation import warning

    return [warning(doubt.message) for doubt in bench.doubts(choice)]


def _shares(option: str, text: str) -> tuple[float, ...]:
    """Parse a list of shares; raises ConfigError."""
    shares = _numbers(option, text)
    if not all(0 < share < 1 for share in shares):
        raise ConfigError("shares lie between 0 and 1", where=f"{option} {text}")
    return shares


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Parse a list of numbers, 0 or more each; raises ConfigError."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(number >= 0 for number in numbers):
        raise ConfigError("not a list of numbers of 0 or more", where=f"{option} {text}")
    return numbers
