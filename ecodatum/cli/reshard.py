"""`ecodatum reshard`: a subset's samples, copied from a pool's shards to shards of their own."""

from pathlib import Path
from typing import Annotated

import typer

from ecodatum.cli.console import StageProgress, err, out
from ecodatum.cli.jobs import run_on_cluster
from ecodatum.errors import ConfigError


def reshard(
    pool: Annotated[str, typer.Option(help="A folder in CommonPool's layout; s3://… and the like too.")],
    subset: Annotated[str, typer.Option(help="The subset: SUBSET.npy, sorted uids of type u8,u8.")],
    out_folder: Annotated[str, typer.Option("--out", help="A new folder for the shards; s3://… too.")],
    shard_size: Annotated[int, typer.Option(min=1, help="The most samples of a shard.")] = 10_000,
    blur_faces: Annotated[
        bool,
        typer.Option("--blur-faces", help="Blur the face boxes of the metadata; those images become WebP."),
    ] = False,
    inject_face_boxes: Annotated[
        bool, typer.Option("--inject-face-boxes", help="Add `face_bboxes` to the json of samples with faces.")
    ] = False,
    webp_quality: Annotated[
        int, typer.Option(min=1, max=100, help="The quality of the images that are blurred.")
    ] = 100,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0: all in this process.")] = 2,
    work: Annotated[Path, typer.Option(help="Folder for logs, and for what waits to be uploaded.")] = Path(
        "runs"
    ),
    cluster: Annotated[
        str | None, typer.Option(help="Do it as an array on Slurm, by this profile, and wait for the end.")
    ] = None,
) -> None:
    """Copy a subset's samples to webdataset shards, as DataComp's `resharder.py` does.

    Bytes are copied and not encoded anew, keys become `<uid>-<copy>`, and `meta.json` and `sample_ids.npy`
    tell what it is; `train` and DataComp's `train.py` read the folder. Samples are spread evenly over each
    part's shards. Interrupted, the same command goes on.

    Example: `ecodatum reshard --pool POOL --subset clip.npy --out shards/clip --jobs 8`
    """
    from ecodatum.pipeline.reshard_pool import STAGE, plan_reshard
    from ecodatum.pipeline.run import run_stages
    from ecodatum.pool.archive import unpacked
    from ecodatum.pool.faces import FaceTreatment, require_blurring
    from ecodatum.pool.location import is_remote, location
    from ecodatum.pool.pool import open_pool

    work = work.expanduser().resolve()
    faces = None
    if blur_faces or inject_face_boxes:
        faces = FaceTreatment(blur_faces, inject_face_boxes, webp_quality)
    elif webp_quality != 100:
        raise ConfigError("nothing is encoded without --blur-faces", where="--webp-quality")
    if blur_faces:
        require_blurring()
    target = location(out_folder)
    with err.status("planning"):
        source = location(pool)
        opened = open_pool(source if is_remote(source) else unpacked(source, work / "unpacked"))
        if not any(part.shards for part in opened.parts):
            raise ConfigError(
                "the pool has no shards", where=opened.path, todo="`ecodatum pool fetch` gets them"
            )
        plan = plan_reshard(opened, location(subset), target, shard_size=shard_size, faces=faces, work=work)
    if plan.finished:
        out.print(f"{target}: done already")
        return
    if cluster is not None:
        run_on_cluster(plan.units, cluster, plan.folder)
    else:
        run_stages(plan.units, (STAGE,), jobs=jobs, folder=plan.folder, reporter=StageProgress())
    done = plan.join()
    faults = f"; {done.dropped:,} with faces dropped: they cannot be decoded" if done.dropped else ""
    blurred = f", {done.blurred:,} with faces blurred" if blur_faces else ""
    out.print(
        f"{target}: {done.written:,} samples{blurred}, of {done.processed:,} in the pool's shards,"
        f" in {done.shards:,} shards{faults}"
    )
