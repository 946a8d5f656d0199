"""The arguments that open_clip's trainer is run with: at DataComp's scales exactly those of its train.py."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ecodatum.errors import ConfigError, PoolError
from ecodatum.train.scales import Scale

_NUMBERED: Final = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)$")


def input_shards(data: str | Path, weights: str | None = None) -> tuple[str, str | None]:
    """Return (shards, weights) in the form that open_clip's `--train-data` takes.

    `data` is a tar, a folder of numbered tars, a folder of such folders (each with the resharder's
    `meta.json`, or tars), an `s3://` address of tars, or several of these joined by `::`. `weights` has
    as many numbers joined by `::`, one for each source.

    Raises PoolError when a folder holds no shards or some are missing, ConfigError when the weights
    don't fit. Source: DataComp train.py, `get_input_shards`; where that sees no gap, this does.
    """
    sources = str(data).split("::")
    shares: list[str | None] = [None] * len(sources) if weights is None else [*weights.split("::")]
    if len(shares) != len(sources):
        raise ConfigError(
            f"{len(shares)} weights for {len(sources)} sources of data", where=f"weights {weights!r}"
        )
    shards: list[str] = []
    factors: list[str] = []
    for source, share in zip(sources, shares, strict=True):
        own = list(_shards_of(source))
        shards += own
        if share is not None:
            factors += [share] * len(own)
    return "::".join(shards), "::".join(factors) if factors else None


def _shards_of(source: str) -> Iterator[str]:
    if source.startswith("s3://"):
        if not source.endswith(".tar"):
            raise ConfigError(
                "a folder in a bucket is not listed",
                where=source,
                todo="name the tars: …/{00000000..00000099}.tar",
            )
        yield f"pipe:aws s3 cp {source} -"
        return
    path = Path(source)
    if path.suffix == ".tar":
        yield source
        return
    if not path.is_dir():
        raise PoolError("no such folder of shards", where=path)
    yield from _shards_in(path)


def _shards_in(folder: Path) -> Iterator[str]:
    if set(str(folder)) & set("{}"):
        raise ConfigError("braces in a path would be expanded by the trainer", where=folder)
    found = False
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = True
        yield from _resharded(inner) if (inner / "meta.json").exists() else _shards_in(inner)
    numbers: dict[str, list[str]] = {}
    for tar in sorted(folder.glob("*.tar")):
        found = True
        match = _NUMBERED.match(tar.stem)
        if match is None:
            yield str(tar)
        else:
            numbers.setdefault(match["prefix"], []).append(match["number"])
    for prefix, digits in sorted(numbers.items()):
        yield str(folder / f"{prefix}{_brace_range(digits, folder / prefix)}.tar")
    if not found:
        raise PoolError(
            "no shards in this folder", where=folder, todo="an empty selection cannot be trained on"
        )


def _brace_range(digits: list[str], where: Path) -> str:
    """Return `{000..019}` for the numbers of one prefix's shards, which must have no gap."""
    last, width = max(int(number) for number in digits), len(digits[0])
    missing = set(range(last + 1)) - {int(number) for number in digits}
    if missing:
        shown = ", ".join(f"{number:0{width}d}.tar" for number in sorted(missing)[:5])
        raise PoolError(f"{len(missing)} shards are missing: {shown}", where=where)
    return f"{{{0:0{width}d}..{last:0{width}d}}}"


def _resharded(folder: Path) -> Iterator[str]:
    """Yield the shards that the resharder's meta.json names."""
    where = folder / "meta.json"
    try:
        meta = json.loads(where.read_text())
        count, form = int(meta["output_shard_count"]), str(meta["output_shard_format"])
        first, last = (form.format(number).replace(".tar", "") for number in (0, count - 1))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PoolError(f"not a resharder's meta.json: {error!r}", where=where) from error
    missing = [number for number in range(count) if not (folder / form.format(number)).exists()]
    if missing or count < 1:
        raise PoolError(
            f"{len(missing)} of the {count} shards that meta.json names are missing", where=folder
        )
    yield str(folder / f"{{{first}..{last}}}.tar")


def open_clip_arguments(
    scale: Scale,
    data: str | Path,
    out: str | Path,
    *,
    model: str,
    name: str,
    seed: int = 0,
    precision: str = "amp",
    workers: int = 4,
    world_size: int = 1,
    accumulation: int = 1,
    weights: str | None = None,
    log_every: int = 100,
) -> list[str]:
    """Return the arguments for `open_clip_train.main.main`.

    `model` is the name that open_clip knows the scale's model by; `data` and `weights` are as for
    `input_shards`; `workers` is per process; the batch is divided over `world_size` processes and
    `accumulation` steps. Source: DataComp train.py; a scale of one's own may add to it.

    Raises ConfigError when the batch cannot be divided so, PoolError when there are no shards.
    """
    if scale.batch_size % (world_size * accumulation):
        raise ConfigError(
            f"a batch of {scale.batch_size} does not divide into {world_size} processes"
            f" × {accumulation} accumulated steps",
            where=f"scale {scale.name}",
        )
    shards, factors = input_shards(data, weights)
    flags = ["--save-frequency", "0", "--ddp-static-graph", "--local-loss", "--gather-with-grad"]
    if scale.grad_checkpointing:
        flags.append("--grad-checkpointing")
    options = {
        "--train-data": shards,
        "--train-num-samples": scale.samples_seen // scale.checkpoints,
        "--warmup": scale.warmup,
        "--dataset-type": "webdataset",
        "--precision": precision,
        "--workers": workers,
        "--model": model,
        "--batch-size": scale.batch_size // (world_size * accumulation),
        "--epochs": scale.checkpoints,
        "--lr": scale.learning_rate,
        "--logs": out,
        "--name": name,
        "--seed": seed,
        "--accum-freq": accumulation,
        "--log-every-n-steps": log_every,
    }
    resuming = ["--save-most-recent", "--resume", "latest", "--dataset-resampled"]
    return [*flags, *_flat(options), *resuming, *_optional(scale, factors)]


def _flat(options: Mapping[str, object]) -> list[str]:
    """Return options and their values in one list; None leaves an option out."""
    given = [(option, str(value)) for option, value in options.items() if value is not None]
    return [part for pair in given for part in pair]


def _optional(scale: Scale, factors: str | None) -> list[str]:
    options = {
        "--beta2": scale.beta2,
        "--train-data-upsampling-factors": factors,
        "--grad-clip-norm": scale.grad_clip_norm,
    }
    return [*_flat(options), *arguments_beyond_datacomp(scale)]


def arguments_beyond_datacomp(scale: Scale) -> list[str]:
    """Return the arguments that DataComp's train.py has no option for; its own scales have none."""
    crop = scale.crop_scale and f"scale=({scale.crop_scale[0]},{scale.crop_scale[1]})"
    return _flat({"--wd": scale.weight_decay, "--aug-cfg": crop})
