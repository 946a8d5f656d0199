"""`ecodatum submit`: a run, checked, bundled, and sent to DataComp's leaderboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table
from ecodatum.cli.counting import counting
from ecodatum.cli.options import seeds_of_run
from ecodatum.errors import ConfigError, EcoDatumError

if TYPE_CHECKING:
    from ecodatum.submission.bundle import Bundle, Details
    from ecodatum.submission.checks import Check
    from ecodatum.submission.entry import Entry


def submit(
    experiment: Annotated[
        str | None, typer.Argument(help="A YAML file, or a name in experiments/.", show_default=False)
    ] = None,
    run: Annotated[
        str | None, typer.Argument(help="The run: its filter and seed, FILTER-seedN.", show_default=False)
    ] = None,
    work: Annotated[
        Path, typer.Option(help="The work folder; the bundle goes to leaderboard/ in it.")
    ] = Path("runs"),
    device: Annotated[str, typer.Option(help="What the run was made on: cpu, cuda, or auto.")] = "auto",
    training: Annotated[
        Path | None, typer.Option(help="In place of a run: a training's folder, with info.pkl.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="With --training: the folder with eval_results.jsonl, if another.")
    ] = None,
    subset: Annotated[Path | None, typer.Option(help="With --training: the subset, an npy file.")] = None,
    pool: Annotated[Path | None, typer.Option(help="With --training: the pool that it is of.")] = None,
    method_name: Annotated[str | None, typer.Option(help="The method's name on the leaderboard.")] = None,
    author: Annotated[str | None, typer.Option(help="Its authors, shown too.")] = None,
    email: Annotated[str | None, typer.Option(help="For DataComp's organisers; not shown.")] = None,
    hf_username: Annotated[str | None, typer.Option(help="Your name, or organisation, on the hub.")] = None,
    hf_repo_name: Annotated[str | None, typer.Option(help="Your model repository there; must exist.")] = None,
    writeup: Annotated[str | None, typer.Option(help="A link to a paper or a page; shown.")] = None,
    upload_checkpoint: Annotated[
        bool, typer.Option("--upload-checkpoint", help="Upload the weights as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send it. Without this nothing leaves here.")] = False,
) -> None:
    """Check a run, bundle it, and show what would be sent to DataComp's leaderboard; --yes sends it.

    Checked: the subset; that the training was on its samples and no others, with the scale's own
    hyper-parameters; that the checkpoint is whole and all forty results are its own. What does not hold
    is named, and nothing is sent. DataComp's own evaluate.py sends; a second attempt goes on after what
    arrived. The hub's key is yours to give (HF_TOKEN, or `hf auth login`); it is written nowhere.

    Example: `ecodatum submit experiments/small.yaml ecodatum-seed0 --method-name EcoDatum --author "A. Name"
    --email a@example.org --hf-username me --hf-repo-name ecodatum-small --yes`

    Example: `ecodatum submit --training OUT/small_scale --subset subset.npy --pool POOL`
    """
    from ecodatum.submission.bundle import write_bundle
    from ecodatum.submission.checks import require
    from ecodatum.submission.sending import destinations, send

    given = {
        "--method-name": method_name,
        "--author": author,
        "--email": email,
        "--hf-username": hf_username,
        "--hf-repo-name": hf_repo_name,
    }
    details = _details(given, writeup, upload_checkpoint)
    if yes and details is None:
        missing = [option for option, value in given.items() if not value]
        raise ConfigError(f"needs {', '.join(missing)}", where="--yes")
    if training is not None:
        entry = _entry_of_folders(training, evaluation, subset, pool, experiment)
    else:
        entry = _entry_of_run(experiment, run, work, device)
    checks = _check(entry)
    require(checks, entry.name)
    bundle = write_bundle(entry, details, work / "leaderboard") if details else None
    _show(entry, details, bundle, destinations())
    if bundle is None:
        err.print("nothing was written: give --method-name and the other options, and see --help")
    elif not yes:
        err.print("nothing was sent: --yes sends it")
    else:
        for step, when in send(bundle).items():
            out.print(f"{step}: arrived {when}")


def _details(given: Mapping[str, str | None], writeup: str | None, upload: bool) -> "Details | None":
    """Return what the leaderboard wants to know, given by option; None where not all is given."""
    from ecodatum.submission.bundle import Details

    values = {option.strip("-").replace("-", "_"): value for option, value in given.items() if value}
    if len(values) < len(given):
        return None
    return Details(**values, writeup=writeup, upload_checkpoint=upload)


def _entry_of_folders(
    training: Path, evaluation: Path | None, subset: Path | None, pool: Path | None, experiment: str | None
) -> "Entry":
    from ecodatum.submission.entry import entry_of_folders

    if experiment is not None or subset is None or pool is None:
        raise ConfigError("goes with --subset and --pool, and without an experiment", where="--training")
    return entry_of_folders(pool, subset, training, evaluation or training)


def _entry_of_run(experiment: str | None, run: str | None, work: Path, device: str) -> "Entry":
    from ecodatum.pipeline.experiment import load_experiment
    from ecodatum.pipeline.graph import build_graph
    from ecodatum.submission.entry import entry_of_run

    if experiment is None or run is None:
        raise ConfigError(
            "an experiment and a run, or --training with --subset and --pool", where="submit needs"
        )
    graph = build_graph(load_experiment(experiment, seeds=seeds_of_run(run)), work, device=device)
    return entry_of_run(graph, run)


def _check(entry: "Entry") -> "tuple[Check, ...]":
    """Check an entry, and print what was found."""
    from ecodatum.submission.checks import check
    from ecodatum.submission.entry import shard_files

    try:
        total = len(shard_files(entry)) + sum(len(part.shards) for part in entry.pool.parts)
    except EcoDatumError:
        total = 1  # the check tells
    done = 0
    with counting("check", total, "shards") as count:

        def tell(shards: int) -> None:
            nonlocal done
            done += shards
            count(done, "")

        checks = check(entry, tell)
    rows = [(found.name, "no" if found.problems else "yes", found.said) for found in checks]
    out.print(table(pd.DataFrame(rows, columns=["Check", "Holds", "Because"]), title=entry.name))
    return checks


def _show(
    entry: "Entry", details: "Details | None", bundle: "Bundle | None", destinations: dict[str, str]
) -> None:
    """Print what would be sent, and where to."""
    from ecodatum.submission.bundle import files_to_send, record, scores
    from ecodatum.submission.sending import STEPS, arrived

    sent = arrived(bundle.folder) if bundle else {}
    steps = [(what, destinations[step], sent.get(step, "–")) for step, what in STEPS.items()]
    means = {f"mean: {group}": f"{mean:.4f}" for group, mean in scores(entry).items()}
    fields = {**record(entry, details), **means}
    rows = [(name, "–" if value is None else str(value)) for name, value in fields.items()]
    files = [(name, f"{path.stat().st_size:,} bytes") for name, path in files_to_send(entry, details).items()]
    out.print(table(pd.DataFrame(rows, columns=["Field", "Value"]), title="The record"))
    out.print(table(pd.DataFrame(files, columns=["File", "Size"]), title="The files"))
    out.print(table(pd.DataFrame(steps, columns=["Step", "To", "Arrived"]), title="The steps"))
    if bundle is not None:
        out.print(f"bundle: {bundle.folder}")
