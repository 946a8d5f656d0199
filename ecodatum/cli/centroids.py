"""`ecodatum centroids`: the cluster centres of a pool's embeddings."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ecodatum.cli.console import err, out
from ecodatum.errors import ConfigError


def centroids(
    pool: Annotated[Path, typer.Option(help="A folder in CommonPool's layout, with its npz files.")],
    clusters: Annotated[int, typer.Option(min=1, help="How many; DataComp makes 100,000 at every scale.")],
    out_file: Annotated[Path, typer.Option("--out", help="The centres to write: CENTRES.npy.")],
    embeddings: Annotated[str, typer.Option(help="The array of the npz to cluster.")] = "l14_img",
    sample_share: Annotated[
        float,
        typer.Option(
            help="The share of each part to cluster, above 0 and at most 1; the sample must fit into memory"
            " in fp32. DataComp takes all at small and medium, 0.3 at large, 0.03 at xlarge."
        ),
    ] = 1.0,
    all_captions: Annotated[
        bool,
        typer.Option(
            "--all-captions", help="Take every sample, not only English captions of a few words and letters."
        ),
    ] = False,
    spherical: Annotated[
        bool, typer.Option("--spherical", help="Centres of length 1, for SemDeDup and density-based pruning.")
    ] = False,
    iterations: Annotated[int, typer.Option(min=1, help="Of k-means.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sample and the first centres.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda (all GPUs, with faiss-gpu), or auto.")] = "auto",
) -> None:
    """Cluster a pool's embeddings with faiss and write the centres, (clusters, width) float32.

    The defaults are DataComp's own for its image-based filter. What made the centres is written beside
    them as JSON. In a recipe: `operators.cluster.centroids=CENTRES.npy`.

    Example: `ecodatum centroids --pool POOL --clusters 1000 --out centres.npy --sample-share 0.1`
    """
    from ecodatum.curate.centroids import (
        Settings,
        choose_device,
        kmeans,
        sample_embeddings,
        write_centroids,
    )
    from ecodatum.pool.pool import open_pool

    if not 0 < sample_share <= 1:
        raise ConfigError(
            f"not above 0 and at most 1: {sample_share}", where="--sample-share", todo="such as 0.1"
        )
    if out_file.suffix != ".npy":
        raise ConfigError("does not end in .npy", where=f"--out {out_file}", todo="such as centres.npy")
    settings = Settings(clusters, embeddings, not all_captions, sample_share, spherical, iterations, seed)
    device, opened, started = choose_device(device), open_pool(pool), time.monotonic()
    with _bar("reading", opened.rows) as advance:
        sample = sample_embeddings(opened, settings, advance)
    n = len(sample.vectors)
    err.print(
        f"{n:,} of {sample.rows:,} samples, {sample.vectors.nbytes / 2**30:.2f} GiB"
        + (f"; {sample.not_finite:,} left out for NaN or infinity" if sample.not_finite else "")
    )
    objectives: list[float] = []
    with _bar("clustering", iterations) as advance:

        def tell(objective: float) -> None:
            objectives.append(objective)
            advance(1)

        centres = kmeans(sample.vectors, settings, device=device, progress=tell)
    seconds = round(time.monotonic() - started, 1)
    write_centroids(
        out_file,
        centres,
        settings,
        pool=opened,
        sample=sample,
        device=device,
        objectives=objectives,
        seconds=seconds,
    )
    out.print(
        f"{out_file}: {clusters:,} centres; mean squared distance {objectives[0] / n:.4f} after the first"
        f" iteration, {objectives[-1] / n:.4f} after the last"
    )


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; give what moves it."""
    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)
