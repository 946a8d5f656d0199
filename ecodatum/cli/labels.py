"""`ecodatum labels`: makes the labelled samples that `ecodatum tune` measures a recipe on."""

from pathlib import Path
from typing import Annotated

import typer

from ecodatum.cli.console import err, out
from ecodatum.errors import ConfigError

app = typer.Typer(help="Make labelled samples, for `ecodatum tune`.", no_args_is_help=True)

Work = Annotated[Path, typer.Option(help="Where a packed pool is unpacked.")]


@app.command()
def synthetic(
    pool: Annotated[Path, typer.Option(help="The pool to draw good pairs from.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to write the labelled set to.")],
    count: Annotated[int, typer.Option(help="Pairs in all; half of them are good.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same set.")] = 0,
    trusted: Annotated[
        Path | None, typer.Option(help="Subset of good pairs (SUBSET.npy); by default the most similar.")
    ] = None,
    top: Annotated[
        float, typer.Option(help="Share of the pool that is taken for good, by --score. 1: all of it.")
    ] = 0.1,
    score: Annotated[str, typer.Option(help="Metadata column.")] = "clip_l14_similarity_score",
    work: Work = Path("runs"),
) -> None:
    """Make known good pairs and known bad ones, without any judging.

    Good pairs are trusted ones; bad ones are others of them with their captions exchanged, or with a
    blurred, dark, washed-out, empty or stretched image. The paper's good pairs are COCO's: with such a pool
    give --top 1. Good pairs that were chosen by similarity flatter functions that read that similarity:
    prefer --trusted, or `ecodatum labels page`. The set is a small pool (metadata and shards, without
    embeddings) with a labels.csv.

    Example: `ecodatum labels synthetic --pool POOL --count 1000 --out LABELS`
    """
    from ecodatum.curate.drawing import of_subset, of_top
    from ecodatum.curate.labelled_set import make_labelled_set
    from ecodatum.pool.archive import unpacked
    from ecodatum.pool.pool import open_pool

    if not 0 < top <= 1:
        raise ConfigError("a share lies between 0 and 1", where=f"--top {top}")
    opened = open_pool(unpacked(pool, work.expanduser().resolve() / "unpacked"))
    eligible = None if top == 1 else of_top(opened, score, top)
    if trusted is not None:
        eligible = of_subset(trusted)
    with err.status("drawing samples"):
        kinds = make_labelled_set(opened, out_folder, count=count, seed=seed, eligible=eligible)
    out.print(f"{out_folder}: {', '.join(f'{number:,} {kind}' for kind, number in kinds.most_common())}")


@app.command()
def page(
    pool: Annotated[Path, typer.Option(help="The pool to draw samples from.")],
    out_file: Annotated[Path, typer.Option("--out", help="The labels file to write or go on with.")],
    count: Annotated[int, typer.Option(min=1, help="Samples to judge.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same samples.")] = 0,
    port: Annotated[int, typer.Option(help="Of this machine; 0: any that is free.")] = 8765,
    work: Work = Path("runs"),
) -> None:
    """Judge samples in a page of this machine: keep or drop by key, undo; saved after every key.

    Only this machine can open the page. Stopped at any moment, the same command goes on where it was. On a
    remote machine forward the port: `ssh -L 8765:127.0.0.1:8765 MACHINE`.

    Example: `ecodatum labels page --pool POOL --count 200 --out labels.csv`
    """
    from ecodatum.cli.label_page import LabelPage
    from ecodatum.curate.drawing import draw_samples
    from ecodatum.curate.label_file import LabelFile
    from ecodatum.pool.archive import unpacked
    from ecodatum.pool.pool import open_pool

    opened = open_pool(unpacked(pool, work.expanduser().resolve() / "unpacked"))
    with LabelFile(out_file) as labels:
        with err.status("drawing samples"):
            samples = draw_samples(opened, count, seed)
        try:
            server = LabelPage(samples, labels, port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}", where=f"--port {port}", todo="try another port, or 0"
            ) from None
        with server:
            out.print(f"judge at {server.address}; Ctrl-C ends")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                out.print(f"{out_file}: {len(labels.judgements):,} judged")
