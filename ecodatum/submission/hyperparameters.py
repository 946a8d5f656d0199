"""Whether a training was one of DataComp's: the scale's model and hyper-parameters, and samples seen."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import RunError
from ecodatum.submission.entry import Entry, read_info
from ecodatum.train.arguments import open_clip_arguments
from ecodatum.train.progress import read_progress
from ecodatum.train.scales import FIXED, Scale

#: The scales that DataComp's leaderboard has; `debug` is not among them.
SCALES: Final = ("small", "medium", "large", "xlarge")

#: The arguments of open_clip's trainer that decide what is learnt from given samples.
_DECISIVE: Final = (
    *("model", "epochs", "train_num_samples", "lr", "warmup", "wd", "beta1", "beta2", "eps", "opt"),
    *("momentum", "lr_scheduler", "skip_scheduler", "epochs_cooldown", "aug_cfg", "dataset_resampled"),
    *("pretrained", "pretrained_image", "lock_image", "lock_text", "siglip", "distill", "use_bn_sync"),
    *("force_image_size", "force_quick_gelu", "force_patch_dropout", "force_custom_text"),
)


def scale_of(entry: Entry) -> Scale:
    """Return the scale that the training's info.pkl names; raises RunError if the leaderboard lacks it."""
    name = read_info(entry.training).get("scale")
    if name not in SCALES:
        why = "has no place on the leaderboard" if name in FIXED else "is none of DataComp's: not comparable"
        raise RunError(
            f"the scale {name!r} {why}",
            where=entry.training / "info.pkl",
            todo=f"the leaderboard has {', '.join(SCALES)}",
        )
    return FIXED[str(name)]


def check_hyperparameters(entry: Entry, scale: Scale) -> Iterator[str]:
    """Yield where a record of the training has other hyper-parameters than the scale.

    The records are info.pkl, settings.json, the trainer's own params.txt and out.log, and the manifest.
    """
    config = read_info(entry.training).get("scale_config")
    yield from _unlike("info.pkl", config, scale.datacomp_config(scale.model))
    settings = entry.training / "settings.json"
    if settings.exists():
        yield from _unlike("settings.json", read_json(settings).get("scale"), scale.identity())
    if entry.links:
        trained = entry.manifest("train", "parameters").get("scale")
        yield from _unlike("the manifest", trained, scale.model_dump(mode="json"))
    yield from _check_params(entry, scale)
    yield from _check_samples_seen(entry, scale)


def _unlike(where: str, found: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(found, dict):
        yield f"{where} does not tell the hyper-parameters"
        return
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            yield f"{where}: {key} is {found.get(key)}, where the scale has {wanted.get(key)}"


def _check_params(entry: Entry, scale: Scale) -> Iterator[str]:
    from open_clip_train.params import parse_args

    params = read_params(entry.training)
    arguments = open_clip_arguments(scale, entry.shards, "", model=scale.model, name="")
    wanted = vars(parse_args(arguments))
    for key in _DECISIVE:
        if key in params and key in wanted and params[key] != str(wanted[key]):
            yield f"params.txt: {key} is {params[key]}, where the scale has {wanted[key]}"
    batch = _product(params, "batch_size", "world_size", "accum_freq")
    if batch != scale.batch_size:
        yield f"params.txt: the batch is {batch} samples, where the scale has {scale.batch_size}"


def read_params(training: Path) -> dict[str, str]:
    """Return the arguments that the trainer wrote into params.txt, as texts; raises RunError without."""
    path = training / "params.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"the trainer's record of its arguments cannot be read: {error}", where=path) from None
    return {key: value for key, _, value in (line.partition(": ") for line in lines)}


def _product(params: Mapping[str, str], *keys: str) -> int | None:
    product = 1
    for key in keys:
        if not params.get(key, "").isdigit():
            return None
        product *= int(params[key])
    return product


def _check_samples_seen(entry: Entry, scale: Scale) -> Iterator[str]:
    """Yield what tells of another number of samples; an epoch is rounded up to workers × batch."""
    workers = max(1, _product(read_params(entry.training), "workers") or 1)
    rounding = scale.checkpoints * workers * scale.batch_size
    last = read_progress(entry.training / "out.log")
    told = {"out.log": last.samples_seen if last else 0}
    if entry.links:
        told["the manifest"] = entry.manifest("train", "counts").get("samples_seen", 0)
    for where, seen in told.items():
        if abs(seen - scale.samples_seen) > rounding:
            yield f"{where}: {seen:,} samples seen, where the scale has {scale.samples_seen:,}"


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's mapping; raises RunError when it is missing, damaged or none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot be read: {error}", where=path) from None
    if not isinstance(value, dict):
        raise RunError("holds no mapping", where=path)
    return value
