"""`ecodatum pool`: fetches a pool, and checks one."""

import multiprocessing
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from ecodatum.cli.console import StageProgress, err, out, table
from ecodatum.cli.jobs import run_on_cluster
from ecodatum.errors import PoolError, RunError
from ecodatum.files import make_folder

if TYPE_CHECKING:
    from ecodatum.pool.checking import Fault, Layout, PartReport
    from ecodatum.pool.fetching import Fetched

app = typer.Typer(no_args_is_help=True, help="Fetch a pool, or check one.", rich_markup_mode="markdown")

_SHOWN = 40


class Scale(StrEnum):
    """The pools on the hub."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    XLARGE = "xlarge"
    DATACOMP_1B = "1b"


class ResizeMode(StrEnum):
    """How img2dataset makes an image fit."""

    NO = "no"
    BORDER = "border"
    KEEP_RATIO = "keep_ratio"
    KEEP_RATIO_LARGEST = "keep_ratio_largest"
    CENTER_CROP = "center_crop"


class Format(StrEnum):
    """How images are encoded."""

    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


@app.command()
def fetch(
    scale: Annotated[Scale, typer.Option(help="Which pool; 1b is DataComp-1B.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The pool's folder; what is there is kept.")],
    metadata_only: Annotated[bool, typer.Option("--metadata-only", help="Fetch no images.")] = False,
    npz: Annotated[bool, typer.Option(help="Fetch the CLIP embeddings too, 5 KB a sample.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Metadata files at a time; 0: all in this process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes for the images of a metadata file.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Downloads at a time in each process.")] = 128,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels that images are made to fit.")] = 512,
    resize_mode: Annotated[ResizeMode, typer.Option(help="How they are.")] = ResizeMode.KEEP_RATIO_LARGEST,
    resize_only_if_bigger: Annotated[bool, typer.Option(help="Leave smaller images as they are.")] = True,
    encode_format: Annotated[Format, typer.Option(help="What images are encoded as.")] = Format.JPG,
    blur_faces: Annotated[bool, typer.Option(help="Blur the face boxes of the metadata.")] = True,
    retries: Annotated[int, typer.Option(min=0, help="Tries after the first.")] = 2,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds until a server is given up.")] = 10,
    work: Annotated[Path, typer.Option(help="Folder for logs.")] = Path("runs"),
    cluster: Annotated[
        str | None, typer.Option(help="Fetch images as an array on Slurm, by this profile's `fetch`.")
    ] = None,
) -> None:
    """Fetch a pool: metadata and embeddings from the Hugging Face hub, images from the web.

    Images are fetched by img2dataset with the settings of DataComp's `download_upstream.py`, one metadata
    file after another or several at a time. Interrupted, the same command goes on. Links die: the share
    of images that came is printed for each metadata file, with the commonest reasons.

    Example: `ecodatum pool fetch --scale small --out pools/small --jobs 2 --processes 8`
    """
    from ecodatum.pipeline.fetch_pool import STAGE, plan_fetch
    from ecodatum.pipeline.run import run_stages
    from ecodatum.pool.fetching import REPOSITORIES, ImageSettings, fetch_metadata, require_downloader

    if not metadata_only:
        require_downloader()
    folder = out_folder.expanduser().resolve()
    make_folder(folder)
    err.print(f"metadata: {REPOSITORIES[scale]}")
    commit = fetch_metadata(REPOSITORIES[scale], folder, embeddings=npz)
    if metadata_only:
        out.print(f"{folder}: metadata at commit {commit}")
        return
    settings = ImageSettings(
        image_size,
        resize_mode.value,
        resize_only_if_bigger,
        encode_format.value,
        blur_faces,
        retries,
        timeout,
    )
    plan = plan_fetch(
        folder, settings, processes=processes, threads=threads, work=work.expanduser().resolve()
    )
    if cluster is not None:
        run_on_cluster(plan.units, cluster, plan.folder)
    else:
        run_stages(plan.units, (STAGE,), jobs=jobs, folder=plan.folder, reporter=StageProgress())
    fetched = plan.settle()
    out.print(table(_fetched(fetched), title=str(folder)))
    rows, images = sum(f.rows for f in fetched.values()), sum(f.images for f in fetched.values())
    out.print(f"{folder}: {images:,} of {rows:,} images ({images / max(rows, 1):.1%})")


def _fetched(fetched: "Mapping[str, Fetched]") -> pd.DataFrame:
    rows = [
        {
            "part": name,
            "rows": f"{part.rows:,}",
            "images": f"{part.images:,}",
            "success": f"{part.images / max(part.rows, 1):.1%}",
            "commonest failures": "; ".join(f"{count:,} × {why}" for why, count in part.reasons) or "-",
        }
        for name, part in fetched.items()
    ]
    return pd.DataFrame(rows)


@app.command()
def check(
    pool: Annotated[Path, typer.Argument(help="A folder in CommonPool's layout.")],
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Do not read the shards, which takes long.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0: all in this process.")] = 2,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for 16 bytes a row; by default a temporary one.")
    ] = None,
) -> None:
    """Check a pool: layout, columns and their types, embeddings, uids, shards, images.

    All metadata and all shards are read. Prints a line a part, then each fault with its file, and ends
    with status 1 if there is any. A dead link is no fault: those are the missing images.

    Example: `ecodatum pool check POOL --jobs 8`
    """
    from ecodatum.pool.checking import check_layout, check_loose

    layout = check_layout(pool)
    with tempfile.TemporaryDirectory(prefix="ecodatum-check-", dir=scratch) as folder:
        files = [Path(folder, f"{number}.npy") for number in range(len(layout.parts))]
        reports = _check_parts(layout, files, shards=not metadata_only, jobs=jobs)
        faults = [*layout.faults, *(fault for report in reports for fault in report.faults)]
        faults += _repeats(layout, files)
    if not metadata_only:
        faults += check_loose(layout.loose)
    out.print(table(_table(reports), title=str(pool)))
    for fault in faults[:_SHOWN]:
        out.print(f"{fault.where}: {fault.what}", markup=False)
    if faults:
        more = f" (the first {_SHOWN} are shown)" if len(faults) > _SHOWN else ""
        raise PoolError(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}{more}", where=pool)
    out.print("no faults")


def _check_parts(layout: "Layout", files: Sequence[Path], *, shards: bool, jobs: int) -> "list[PartReport]":
    from ecodatum.pool.checking import check_part

    arguments = layout.parts, files, [shards] * len(files)
    if jobs == 0:
        return _shown(map(check_part, *arguments), len(files))
    try:  # not forked: arrow has threads by now
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
            return _shown(processes.map(check_part, *arguments), len(files))
    except BrokenProcessPool:
        raise RunError("a process was killed", where="--jobs", todo="for want of memory? use fewer") from None


def _shown(reports: "Iterable[PartReport]", total: int) -> "list[PartReport]":
    """Collect the reports, and show how many there are yet."""
    found = []
    with err.status(f"checking: 0 of {total} parts") as status:
        for report in reports:
            found.append(report)
            status.update(f"checking: {len(found)} of {total} parts")
    return found


def _repeats(layout: "Layout", files: Sequence[Path]) -> "list[Fault]":
    from ecodatum.pool.checking import Fault
    from ecodatum.pool.uniqueness import repeated_uids

    count, found = repeated_uids(files)
    faults = []
    for repeat in found:
        others = ", ".join(layout.parts[number].metadata.name for number in repeat.files[1:])
        first = layout.parts[repeat.files[0]].metadata
        faults.append(Fault(first, f"uid {repeat.uid} is there {len(repeat.files)} times: also in {others}"))
    if count > len(found):
        where = layout.parts[0].metadata.parent
        faults.append(Fault(where, f"{count - len(found)} more uids are there more than once"))
    return faults


def _table(reports: "Sequence[PartReport]") -> pd.DataFrame:
    rows = [
        {
            "part": report.name,
            "rows": f"{report.rows:,}",
            "shards": report.shards,
            "images": "-" if report.images is None else f"{report.images:,}",
            "missing": _missing(report.rows, report.images if report.shards else None),
            "npz": "yes" if report.embeddings else "no",
            "faults": len(report.faults),
        }
        for report in reports
    ]
    return pd.DataFrame(rows)


def _missing(rows: int, images: int | None) -> str:
    return "-" if images is None else f"{rows - images:,} ({1 - images / max(rows, 1):.1%})"
