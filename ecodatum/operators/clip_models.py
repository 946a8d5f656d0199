"""CLIP models: makes configs of one's own known to open_clip, and loads weights without running code."""

import contextlib
import difflib
import importlib.util
import json
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecodatum.errors import AssetError, ConfigError

#: What open_clip takes for a model of its own.
_REQUIRED = ("embed_dim", "vision_cfg", "text_cfg")

#: What open_clip raises for a file that torch can read and that is no (or an empty) state dict.
_NOT_A_STATE_DICT = (AttributeError, TypeError, StopIteration, AssertionError)


def register(model: str, beside: Path | None = None) -> str:
    """Return the name under which open_clip knows `model`, making it known first if it is a JSON config.

    `model` is a name of open_clip's (`ViT-B-32`) or the path of a JSON file in its form, taken relative
    to the folder `beside` when that is given. A relative `text_cfg.tokenizer_kwargs.bpe_path` is taken
    relative to the JSON file. The name of such a model is the file's stem.

    Raises ConfigError when there is no such name or file, or the config cannot be used.
    """
    import open_clip

    if not model.endswith(".json"):
        if model not in open_clip.list_models():
            raise ConfigError(
                "open_clip knows no model of this name",
                where=model,
                todo="a config of one's own ends in .json",
            )
        return model
    path = (beside or Path()) / Path(model).expanduser()
    config = _read_config(path)
    known = open_clip.get_model_config(path.stem)
    if known is not None and _without_flags(known) != _without_flags(config):
        raise ConfigError(
            f"open_clip already knows another model named {path.stem!r}", where=path, todo="rename the file"
        )
    if known is None:
        # open_clip reads configs from files only, and at once; the copy holds the absolute path.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_text(json.dumps(config), encoding="utf-8")
            open_clip.add_model_config(copy)
    return path.stem


def config_files(model: str) -> tuple[Path, ...]:
    """Return the files that a JSON config stands for (itself and its vocabulary); none for a known name.

    Imports nothing of open_clip. Raises ConfigError when the name or the file cannot be used.
    """
    if model.endswith(".json"):
        path = Path(model).expanduser()
        vocabulary = _read_config(path)["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path")
        return (path, Path(vocabulary)) if vocabulary else (path,)
    package = importlib.util.find_spec("open_clip")
    configs = Path(package.origin).parent / "model_configs" if package and package.origin else Path()
    names = [path.stem for path in configs.glob("*.json")]
    if model not in names:
        near = ", ".join(difflib.get_close_matches(model, names)) or "see open_clip.list_models()"
        raise ConfigError(
            "open_clip knows no model of this name",
            where=model,
            todo=f"near names: {near}; a config of one's own ends in .json",
        )
    return ()


def load(
    model: str, weights: Path | str, *, device: str, precision: str = "fp32", listed: str | None = None
) -> tuple[Any, Any, Any]:
    """Return (model in eval mode, image transform, tokenizer) with the weights of a checkpoint.

    `model` is a name that `register` returned; `weights` a state dict or a checkpoint of open_clip's
    trainer, or the name of weights that open_clip lists for this model (`openai`), which it fetches if
    they are not in its cache; `precision` is open_clip's (`fp32`, `bf16`, `fp16`). `listed`: the name
    under which open_clip lists the weights, for a file with them. No code in the file is ever run.

    Raises AssetError when the file is missing, is no checkpoint, or does not fit the model.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if not Path(weights).is_file() and str(weights) not in tags:
        known = f"; open_clip has for {model}: {', '.join(tags)}" if tags else ""
        raise AssetError("no such checkpoint", where=weights, todo=f"give the path of a file{known}")
    try:
        network, _, transform = open_clip.create_model_and_transforms(
            model,
            pretrained=str(weights),
            precision=precision,
            device=device,
            weights_only=True,
            **_as_trained(model, listed or str(weights)),
        )
    except pickle.UnpicklingError as error:
        # torch's own message advises to load with weights_only=False: the last thing to do here.
        raise AssetError(
            "not a checkpoint, or one that holds more than weights; nothing of it was run", where=weights
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, *_NOT_A_STATE_DICT) as error:
        if not Path(weights).is_file():
            raise AssetError(
                f"the weights {str(weights)!r} are not in open_clip's cache, and cannot be fetched",
                where=model,
                todo="fetch them where there is a network, or give the path of a file",
            ) from error
        raise AssetError(
            f"not a checkpoint of {model}: {_summary(error)}",
            where=weights,
            todo="a state dict, or a checkpoint of open_clip's trainer, is expected",
        ) from error
    network.eval()
    return network, transform, open_clip.get_tokenizer(model)


def _as_trained(model: str, listed: str) -> dict[str, Any]:
    """Return what weights that open_clip lists need besides: how they saw images, and their activation.

    open_clip itself only warns when a model of the plain name is given weights trained with QuickGELU,
    as OpenAI's are, and computes other embeddings.
    """
    import open_clip

    known = open_clip.get_pretrained_cfg(model, listed)
    if not known:
        return {}
    return {
        "force_quick_gelu": bool(known.get("quick_gelu", False)),
        "image_mean": known["mean"],
        "image_std": known["std"],
        "image_interpolation": known["interpolation"],
        "image_resize_mode": known["resize_mode"],
    }


def choose_device(device: str) -> str:
    """Return `device`, or for `auto` `cuda` where there is one, else `cpu`.

    Raises ConfigError when `cuda` is asked for and there is none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device here", where=f"device {device!r}", todo="use cpu or auto")
    return device


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such model config", where=path) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"not a JSON model config: {error}", where=path) from error
    missing = [key for key in _REQUIRED if not isinstance(config, dict) or key not in config]
    if missing:
        raise ConfigError(f"the model config lacks {', '.join(missing)}", where=path)
    options = config["text_cfg"].get("tokenizer_kwargs", {})
    if "bpe_path" in options:
        vocabulary = path.resolve().parent / options["bpe_path"]
        if not vocabulary.is_file():
            raise ConfigError("the tokenizer's bpe_path is not there", where=vocabulary)
        options["bpe_path"] = str(vocabulary)
    return dict(config)


def _without_flags(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what open_clip writes into a config when it builds the model."""
    return {key: value for key, value in config.items() if key in _REQUIRED or key == "quick_gelu"}


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(line.strip() for line in lines[:2])[:300] or type(error).__name__


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with `count` torch threads on the CPU within the block (None: torch's own choice).

    With one, sums are always taken in the same order, so that results repeat to the bit; beside
    decoding threads on few cores it is also several times faster than torch's own choice.
    """
    import torch

    former = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)
