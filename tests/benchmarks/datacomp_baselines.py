"""Runs DataComp's `baselines.py`, unmodified, offline: `datacomp_baselines.py --name … --metadata_dir …`.

DATACOMP_HOME names the checkout; BENCHMARK_ASSETS a folder with the files that it would download:
`fasttext` (a language model), `imagenet21k_wordnet_ids`, and nltk's data in `nltk_data`. Its workers are new
processes that import this file again, so what replaces the downloads stands at the top.
"""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HOME, ASSETS = Path(os.environ["DATACOMP_HOME"]), Path(os.environ["BENCHMARK_ASSETS"])
sys.path.insert(0, str(HOME))

import fasttext  # noqa: E402
import nltk  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: E402
import numpy as np  # noqa: E402

utils: Any = importlib.import_module("baselines.utils")


def _here(name: str, root: str | None = None) -> str:
    return str(ASSETS / name)


utils.download = _here
nltk.download = lambda *_: True
# fasttext 0.9.3 asks NumPy 2 for an array that is no copy of a tuple, which cannot be.
fasttext.FastText.np = SimpleNamespace(array=lambda values, copy=None: np.asarray(values))
nltk.data.path.insert(0, str(ASSETS / "nltk_data"))

if __name__ == "__main__":
    # Not through runpy: the workers would import that file, and not this one.
    exec(compile((HOME / "baselines.py").read_text(), "baselines.py", "exec"))
