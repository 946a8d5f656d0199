"""Models of the transformers library, loaded from a folder: no network, and no code from the folder."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ecodatum.errors import AssetError

Precision = Literal["fp32", "bf16"]


def require_transformers(operator: str) -> None:
    """Raise AssetError, with what to install, when transformers is not there; imports nothing."""
    if importlib.util.find_spec("transformers") is None:
        raise AssetError(
            "the library transformers is not installed",
            where=f"operator {operator}",
            todo="install the extra: pip install 'ecodatum[grounding]'",
        )


def load_model(kind: str, folder: Path, *, device: str, precision: Precision) -> Any:
    """Return a model in eval mode on the device.

    kind: the name of a transformers Auto class. folder: what `save_pretrained` has written; weights
    are read from safetensors only. Raises AssetError when the folder holds no such model, or one that
    lacks weights.
    """
    import torch
    import transformers

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with _of(folder):
        model, report = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
    absent = sorted(report["missing_keys"])
    if absent:
        raise AssetError(
            f"{len(absent)} of the model's weights are not in the file, such as {absent[0]}", where=folder
        )
    return model.to(device).eval()


def load_part(kind: str, folder: Path, **options: Any) -> Any:
    """Return a tokenizer or an image processor of a folder; raises AssetError when it holds none."""
    import transformers

    with _of(folder):
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, **options)


@contextlib.contextmanager
def _of(folder: Path) -> Iterator[None]:
    """Load quietly, and name the folder in an error."""
    import transformers

    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    # A damaged file ends in almost any error, some of them safetensors' own.
    except Exception as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise AssetError(f"not a model that transformers can load: {why}", where=folder) from error
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
