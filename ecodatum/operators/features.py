"""Files of features: cluster centres, and the embeddings of a target data set's images."""

import codecs
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ecodatum.errors import AssetError

#: The embeddings of ImageNet-1k's training images by OpenAI's ViT-L/14, as DataComp publishes them.
IMAGENET_1K: Final = tuple(f"in1k_clip_vit_l14_{i}.pt" for i in range(5))

_RECONSTRUCT: Final = np.empty(0).__reduce__()[0]

#: All that an array's pickle names; NumPy 1 and 2 call the first one differently.
_GLOBALS: Final[Mapping[tuple[str, str], Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and nothing else, so that no file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array does") from None


def read_centroids(path: Path) -> npt.NDArray[np.float32]:
    """Return cluster centres, (k, width) fp32, of a `.npy` or of an array that `torch.save` has written.

    DataComp saves them the second way, with pickle protocol 4, which torch's own safe loading does not
    read. Raises AssetError for a file that holds anything else.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            with zipfile.ZipFile(path) as archive:
                (name,) = (entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
                with archive.open(name) as file:
                    array = _ArrayUnpickler(file).load()
        if not isinstance(array, np.ndarray) or array.ndim != 2 or not len(array):
            raise ValueError("it holds no array of rows")
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ValueError("it holds something else than finite numbers")
        return np.ascontiguousarray(array, np.float32)
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError, OSError) as error:
        raise AssetError(f"not cluster centres: {error}", where=path) from error


def read_features(path: Path) -> npt.NDArray[np.floating]:
    """Return image features, (n, width), mapped from the file and in its own precision.

    The file is a `.npy`, or the tensor `image_features` by `torch.save`. Raises AssetError for a file
    that holds anything else.
    """
    try:
        features = np.load(path, mmap_mode="c") if path.suffix == ".npy" else _read_tensor(path)
        if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
            raise ValueError(f"its features have the shape {features.shape} and are {features.dtype}")
        return features
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, OSError) as error:
        raise AssetError(f"not image features: {error}", where=path) from error


def _read_tensor(path: Path) -> npt.NDArray[np.floating]:
    import torch

    mapped = zipfile.is_zipfile(path)  # torch cannot map the files of before 1.6
    tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)["image_features"]
    array: npt.NDArray[np.floating] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array
