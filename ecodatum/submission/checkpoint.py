"""Whether a checkpoint is whole, is the scale's model, and is the one that the results are of."""

import logging
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import RunError
from ecodatum.fingerprint import file_fingerprint
from ecodatum.submission.entry import Entry
from ecodatum.submission.hyperparameters import read_json
from ecodatum.train.scales import Scale

_UNREADABLE: Final = (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


def check_checkpoint(entry: Entry, scale: Scale) -> Iterator[str]:
    """Yield what is wrong with the weights; raises RunError when they cannot be read."""
    content = _read(entry.checkpoint)
    if content.get("epoch") != scale.checkpoints:
        yield f"it is of epoch {content.get('epoch')}, where the training ends with {scale.checkpoints}"
    weights = content.get("state_dict")
    if not isinstance(weights, dict):
        yield "it holds no state_dict"
        return
    yield from _check_shapes(weights, scale.model)
    infinite = [key for key, value in weights.items() if not bool(value.isfinite().all())]
    if infinite:
        yield f"{len(infinite)} of its tensors are not numbers: {', '.join(infinite[:3])}"
    yield from _check_subject(entry, scale)


def _read(checkpoint: Path) -> Mapping[str, Any]:
    """Return a checkpoint's content, every tensor's sum compared: torch stores sums, and reads past them."""
    import torch

    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if (wrong := archive.testzip()) is not None:
                raise RunError(f"is damaged at {wrong}", where=checkpoint)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError("no such checkpoint", where=checkpoint) from None
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise RunError("is cut off or damaged, or no checkpoint", where=checkpoint) from error
    if not isinstance(content, dict):
        raise RunError("is no checkpoint of open_clip's trainer", where=checkpoint)
    return content


def _check_shapes(weights: Mapping[str, Any], model: str) -> Iterator[str]:
    found = {key.removeprefix("module."): tuple(value.shape) for key, value in weights.items()}
    wanted = _shapes(model)
    odd = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if odd:
        yield f"it is no {model}: {len(odd)} tensors differ, such as {odd[0]}"


@cache
def _shapes(model: str) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors, without making any."""
    import open_clip
    import torch

    meta, level = torch.device("meta"), logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that no weights are loaded
    try:
        with meta:
            network = open_clip.create_model(model, device=meta)
    finally:
        logging.disable(level)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def _check_subject(entry: Entry, scale: Scale) -> Iterator[str]:
    """Yield what tells that the results are another's; `eval_info.json` says whose they are."""
    subject = read_json(entry.evaluation / "eval_info.json").get("subject")
    if not isinstance(subject, dict):
        yield "eval_info.json does not tell of which checkpoint the results are"
        return
    mark = file_fingerprint(entry.checkpoint)
    if subject.get("checkpoint") != mark:
        yield (
            f"the results are of another checkpoint: {subject.get('checkpoint')}, where this one's"
            f" fingerprint is {mark}"
        )
    if subject.get("model") != scale.model:
        yield f"the results are of a {subject.get('model')}, where the scale's model is {scale.model}"
