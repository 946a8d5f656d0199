"""Python imports this as it starts: this folder is on the PYTHONPATH of DataComp's scripts.

Only so do the aliases reach processes that a script spawns, and those of torchrun and srun. A
`sitecustomize` of the machine's own is run afterwards, as it would have been.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _run(name: str, path: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


_run("ecodatum_datacomp_aliases", str(_HERE / "aliases.py"))
sys.modules["ecodatum_datacomp_aliases"].install()

_others = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
_shadowed = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _shadowed is not None and _shadowed.origin is not None:
    _run("ecodatum_shadowed_sitecustomize", _shadowed.origin)
