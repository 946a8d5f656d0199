"""The compatibility layer: patched modules, stand-ins, and how processes come by it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from ecodatum.datacomp import scripts
from ecodatum.datacomp.layer import aliases
from ecodatum.datacomp.layer.aliases import ALIASES


def run(code: str, *, path: Path | None = None, **variables: str) -> str:
    """Run code in a Python that has the layer, and return what it prints."""
    environment = {**scripts.environment(), **variables}
    if path is not None:
        environment["PYTHONPATH"] += os.pathsep + str(path)
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_each_alias_says_why_and_for_which_versions() -> None:
    assert len({alias.module for alias in ALIASES}) == len(ALIASES)
    for alias in ALIASES:
        assert alias.reason and alias.versions
        assert (alias.patch is None) != (alias.instead is None)


def test_the_layer_needs_nothing_of_ours_so_that_another_python_can_have_it() -> None:
    for name in ("aliases.py", "sitecustomize.py"):
        tree = ast.parse(Path(aliases.__file__).with_name(name).read_text())
        imported = {
            module.split(".")[0]
            for node in tree.body
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert imported <= sys.stdlib_module_names


def test_a_module_that_is_absent_is_stood_in_for_with_those_inside_it() -> None:
    code = (
        "import sys, training.distributed, open_clip_train.distributed as now; "
        "print(training.distributed is now, now.__spec__.name, 'torch' in sys.modules)"
    )
    assert run(code) == "True open_clip_train.distributed True"


def test_a_module_that_is_there_is_not_stood_in_for(tmp_path: Path) -> None:
    (tmp_path / "gcld3").mkdir()
    (tmp_path / "gcld3" / "__init__.py").write_text("here = 'the real one'")
    assert run("import gcld3; print(gcld3.here)", path=tmp_path) == "the real one"


def test_a_stand_in_says_what_is_missing_once_it_is_used() -> None:
    code = (
        "import dataclasses, sys, ecodatum_datacomp_aliases as layer\n"
        "gcld3 = next(alias for alias in layer.ALIASES if alias.module == 'gcld3')\n"
        "sys.meta_path.insert(0, layer.AliasFinder([dataclasses.replace(gcld3, module='not_there')]))\n"
        "import not_there\nmodel = not_there.NNetLanguageIdentifier(0, 1)\n"
        "try: model.FindLanguage(text='a')\nexcept ModuleNotFoundError as error: print(error)"
    )
    assert run(code) == "not_there is not installed, and NNetLanguageIdentifier is used"


def test_patches_reach_spawned_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # which a spawned process imports
    program.write_text(
        "import multiprocessing as mp\n"
        "def find():\n    import webdataset.writer as writer\n    return hasattr(writer.gopen, 'Pipe')\n"
        "if __name__ == '__main__':\n"
        "    with mp.get_context('spawn').Pool(1) as pool: print(pool.apply(find))\n"
    )
    assert run(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')") == "True"


def test_the_machines_own_sitecustomize_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['OWN'] = 'yes'")
    assert run("import os; print(os.environ['OWN'])", path=tmp_path) == "yes"


def test_tars_are_read_without_the_marks_of_their_ends(tmp_path: Path) -> None:
    (tmp_path / "webdataset").mkdir()
    (tmp_path / "webdataset" / "__init__.py").write_text("")
    (tmp_path / "webdataset" / "tariterators.py").write_text(
        "def tar_file_expander(data, handler=None): yield from ({'fname': 'a'}, {}, {'fname': 'b'}, {})"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from webdataset.tariterators import tar_file_expander as expand; print(len(list(expand([]))))"
    )
    assert run(code) == "2"


def test_arrays_are_loaded_and_code_is_not(tmp_path: Path) -> None:
    code = (
        "import numpy, pickle, torch, os\n"
        "torch.save(numpy.arange(3, dtype='float32'), 'array.pt', pickle_protocol=2)\n"
        "class Hostile:\n def __reduce__(self): return os.mkdir, ('trap',)\n"
        "torch.save(Hostile(), 'hostile.pt')\n"
        "print(torch.load('array.pt').tolist())\n"
        "try: torch.load('hostile.pt')\n"
        "except pickle.UnpicklingError: print('refused', os.path.exists('trap'))"
    )
    program = f"import os; os.chdir({str(tmp_path)!r})\n{code}"
    assert run(program).splitlines() == ["[0.0, 1.0, 2.0]", "refused False"]


def test_fasttexts_tokens_are_counted_as_it_counts_them() -> None:
    code = "import fasttext; print(fasttext.tokenize('a b\\tc\\n d\\u00a0e'))"
    assert run(code) == "['a', 'b', 'c', '</s>', 'd\\xa0e']"


def test_assets_come_from_our_folder(tmp_path: Path) -> None:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "__init__.py").write_text("")
    (tmp_path / "baselines" / "utils.py").write_text("def download(name, root=None): return 'fetched'")
    (tmp_path / "small_centroids_l14.pt").write_text("")
    code = (
        "from baselines.utils import download; "
        "print(download('small_centroids'), download('in1k_clip_vit_l14_0'))"
    )
    assert run(code, path=tmp_path, ECODATUM_ASSETS=str(tmp_path)) == (
        f"{tmp_path}/small_centroids_l14.pt fetched"
    )
