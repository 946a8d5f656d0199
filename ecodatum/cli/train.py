"""`ecodatum train`: a training by itself."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ecodatum.cli.console import err, out
from ecodatum.cli.counting import counting
from ecodatum.errors import ConfigError

Precision = Literal["amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "fp32"]


def train(
    scale: Annotated[str, typer.Option(help="debug, small, medium, large, xlarge, or your own YAML file.")],
    data: Annotated[str, typer.Option(help="A folder of shards, a tar or an s3:// address; several: A::B.")],
    out_folder: Annotated[
        Path, typer.Option("--out", help="The folder that the training's folder is made in.")
    ],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    engine: Annotated[
        Literal["builtin", "datacomp"], typer.Option(help="Ours, or DataComp's own train.py.")
    ] = "builtin",
    workers: Annotated[int, typer.Option(min=0, help="Loader processes for each training process.")] = 4,
    precision: Annotated[Precision, typer.Option(help="open_clip's; amp means fp32 on the CPU.")] = "amp",
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="GPUs of this machine; by default what torchrun or srun say."),
    ] = None,
    accumulation: Annotated[int, typer.Option(min=1, help="Steps that a batch is divided over.")] = 1,
    weights: Annotated[
        str | None, typer.Option(help="How often to take from each of several sources: 1::0.5")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The training's folder in --out.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    log_every: Annotated[int, typer.Option(min=1, help="Steps from one line of the log to the next.")] = 100,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the arguments for open_clip as JSON, and train nothing.")
    ] = False,
) -> None:
    """Train CLIP at a scale with open_clip's trainer, with the arguments that DataComp's train.py gives it.

    What was interrupted goes on from its last checkpoint. DataComp's scales are fixed; another
    hyper-parameter takes a scale of one's own, and its result stands in no table beside theirs.

    Example: `ecodatum train --scale small --data SHARDS --out trainings --gpus 8`
    """
    from ecodatum.train.scales import load_scale

    loaded = load_scale(scale)
    if dry_run:
        from open_clip_train.distributed import world_info_from_env

        from ecodatum.operators.clip_models import register
        from ecodatum.train.arguments import open_clip_arguments

        arguments = open_clip_arguments(
            loaded,
            data,
            out_folder,
            model=register(loaded.model, loaded.folder),
            name=name or f"{loaded.name}_scale",
            seed=seed,
            precision=precision,
            workers=workers,
            world_size=gpus or world_info_from_env()[2],
            accumulation=accumulation,
            weights=weights,
            log_every=log_every,
        )
        sys.stdout.write(json.dumps(arguments, indent=1) + "\n")
        return
    if gpus is not None and gpus > 1 and "WORLD_SIZE" not in os.environ:
        _under_torchrun(gpus, device)
    if not loaded.comparable:
        err.print(f"{loaded.name} is a scale of your own: not comparable with DataComp's results")

    from ecodatum.train.engines import trainer
    from ecodatum.train.progress import Progress

    with counting("train", loaded.samples_seen, "samples") as count:

        def tell(progress: Progress) -> None:
            count(progress.samples_seen, f"loss {progress.loss:.3f}, {progress.images_per_second:,.0f}/s")

        done = trainer(engine)(
            loaded,
            data,
            out_folder,
            seed=seed,
            workers=workers,
            precision=precision,
            device=device,
            name=name,
            accumulation=accumulation,
            weights=weights,
            log_every=log_every,
            on_progress=tell,
        )
    if done.leads and done.read_errors:
        err.print(f"{done.read_errors} damaged images or shards were skipped; see {done.folder / 'out.log'}")
    if done.leads:
        out.print(f"{done.checkpoint}: {done.samples_seen:,} samples seen, {done.seconds:,.0f} s")


def _under_torchrun(gpus: int, device: str) -> None:
    """Become torchrun, with this very command as each of its processes."""
    import torch

    there = 0 if device == "cpu" else torch.cuda.device_count()
    if gpus > there:
        raise ConfigError(f"{gpus} GPUs, where there are {there}", where="--gpus")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)]
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "ecodatum", *sys.argv[1:]])
