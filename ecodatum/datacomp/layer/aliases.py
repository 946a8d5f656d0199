"""What DataComp's scripts need of today's packages: one entry a break, with its reason and its versions.

Each entry takes effect when a script imports the module that it names, and at no other time. Nothing of
`ecodatum` is imported here: a script may run under another Python than ours (img2dataset's).
"""

import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

#: A JSON file that describes a scale of one's own: see `ecodatum.datacomp.scripts.OwnScale`.
SCALE_VARIABLE = "ECODATUM_DATACOMP_SCALE"


@dataclass(frozen=True)
class Alias:
    """A change to a module: `patch` after it was imported, or a stand-in by `instead` where it is absent.

    `instead` is called with the name that is imported, of the module or of one inside it.
    """

    module: str
    versions: str
    reason: str
    patch: Callable[[Any], None] | None = None
    instead: Callable[[str], ModuleType] | None = None


# --- training -----------------------------------------------------------------------------------------


def _open_clip_train(name: str) -> ModuleType:
    return importlib.import_module(name.replace("training", "open_clip_train", 1))


def _own_scale() -> dict[str, Any] | None:
    path = os.environ.get(SCALE_VARIABLE)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else None


def _add_scale(scale_configs: Any) -> None:
    if (scale := _own_scale()) is not None:
        scale_configs.SCALE_CONFIGS[scale["name"]] = scale["config"]
        scale_configs.SIMPLE_NAMES.append(scale["name"])


def _add_model(open_clip: Any) -> None:
    if (scale := _own_scale()) is not None and scale["model_config"]:
        open_clip.add_model_config(scale["model_config"])


def _add_arguments(trainer: Any) -> None:
    if (scale := _own_scale()) is None:
        return
    original = trainer.main

    def main(arguments: list[str]) -> Any:
        kept = [argument for argument in arguments if argument not in scale["without"]]
        return original([*kept, *scale["arguments"]])

    trainer.main = main


# --- shards -------------------------------------------------------------------------------------------


def _drop_end_markers(tariterators: Any) -> None:
    original = tariterators.tar_file_expander

    def expand(*arguments: Any, **options: Any) -> Iterator[Any]:
        return (item for item in original(*arguments, **options) if item)

    tariterators.tar_file_expander = expand


def _gopen_with_pipe(writer: Any) -> None:
    opener = importlib.import_module("webdataset.gopen")
    if not isinstance(writer.gopen, ModuleType):
        writer.gopen.Pipe, writer.gopen.info = opener.Pipe, opener.info


def _compose_in_place(pipeline: Any) -> None:
    def compose(self: Any, *stages: Any) -> Any:
        composed = copy.copy(self)  # the list of stages is shared, as it was up to 0.2.31
        for stage in stages:
            composed.append(stage)
        return composed

    pipeline.DataPipeline.compose = compose


def _no_empty_check(module: Any) -> None:
    original = module.WebDataset.__init__
    if "empty_check" in inspect.signature(original).parameters:

        def initialise(self: Any, *arguments: Any, **options: Any) -> None:
            original(self, *arguments, **{"empty_check": False, **options})

        module.WebDataset.__init__ = initialise


def _placeholder(name: str) -> ModuleType:
    """Return an empty module; what is taken out of it says what is missing, once it is used."""
    module = ModuleType(name)
    module.__path__ = []

    def attribute(wanted: str) -> Any:
        if wanted.startswith("__"):
            raise AttributeError(wanted)

        class Missing:
            def __init__(self, *arguments: Any, **options: Any) -> None: ...

            def __getattr__(self, attribute: str) -> Any:
                raise ModuleNotFoundError(f"{name.partition('.')[0]} is not installed, and {wanted} is used")

            def __call__(self, *arguments: Any, **options: Any) -> Any:
                return self.__getattr__("__call__")

        return Missing

    module.__getattr__ = attribute  # type: ignore[method-assign]
    return module


def _no_blurrer(name: str) -> ModuleType:
    if "--apply-blur" in sys.argv or Path(sys.argv[0]).name != "resharder.py":
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _placeholder(name)


# --- baselines ----------------------------------------------------------------------------------------


def _fasttext_tokenize(fasttext: Any) -> None:
    if not hasattr(fasttext, "tokenize"):
        ends = {ord(character): " " for character in "\t\v\f\r\0"}

        def tokenize(text: str) -> list[str]:
            lines = text.translate(ends).split("\n")
            tokens = [[*filter(None, line.split(" "))] for line in lines]
            for line in tokens[:-1]:
                line.append("</s>")
            return [token for line in tokens for token in line]

        fasttext.tokenize = tokenize


def _predict_texts_and_lists(model: Any) -> None:
    original = model._FastText.predict
    only_lists = hasattr(
        model, "tokenize"
    )  # fasttext's own package; fasttext-predict takes only single texts

    def predict(self: Any, text: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(text, list) == only_lists:
            return original(self, text, *arguments, **options)
        if only_lists:
            labels, probabilities = original(self, [text], *arguments, **options)
            return labels[0], probabilities[0]
        found = [original(self, one, *arguments, **options) for one in text]
        return [labels for labels, _ in found], [probabilities for _, probabilities in found]

    model._FastText.predict = predict


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles an array and nothing else, so that no file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "numpy._core.multiarray": "_reconstruct",
            "numpy.core.multiarray": "_reconstruct",
            "_codecs": "encode",
        }
        if allowed.get(module) == name or (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            current = module.replace("numpy.core", "numpy._core")
            return getattr(importlib.import_module(current), name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no array does")


def _load_arrays(torch: Any) -> None:
    original = torch.load

    def load(file: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return original(file, *arguments, **options)
        except pickle.UnpicklingError as refused:
            try:
                with zipfile.ZipFile(file) as archive:
                    (name,) = (entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
                    with archive.open(name) as content:
                        return _ArrayUnpickler(content).load()
            except (zipfile.BadZipFile, pickle.UnpicklingError, ValueError):
                raise refused from None

    torch.load = load


def _assets_from_our_folder(utils: Any) -> None:
    original = utils.download
    files = {"fasttext": "lid.176.bin", "imagenet21k_wordnet_ids": "imagenet21k_wordnet_ids.txt"}

    def download(name: str, root: str | None = None) -> str:
        file = files.get(name, f"{name}_l14.pt" if name.endswith("_centroids") else f"{name}.pt")
        ours = Path(os.environ.get("ECODATUM_ASSETS", "")) / file
        return str(ours) if "ECODATUM_ASSETS" in os.environ and ours.is_file() else original(name, root)

    utils.download = download


def _centroids_on_the_cpu(apply_filter: Any) -> None:
    torch = apply_filter.torch
    if torch.cuda.is_available():
        return
    to = torch.Tensor.to

    def to_cpu(tensor: Any, target: Any, *arguments: Any, **options: Any) -> Any:
        where = "cpu" if str(target).startswith("cuda") else target
        return to(tensor, where, *arguments, **options)

    torch.Tensor.to = to_cpu
    torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1


# --- evaluation ---------------------------------------------------------------------------------------


def _old_names_of_the_hub(hub: Any) -> None:
    if not hasattr(hub, "Repository"):
        hub.Repository = type("Repository", (), {"__doc__": "Imported by evaluate.py and never used."})
    original = hub.snapshot_download

    def snapshot_download(*arguments: Any, local_dir_use_symlinks: Any = None, **options: Any) -> Any:
        return original(*arguments, **options)

    hub.snapshot_download = snapshot_download


def _classify_in_fp32(zeroshot_classification: Any) -> None:
    classifier = zeroshot_classification.zero_shot_classifier

    def zero_shot_classifier(
        model: Any, tokenizer: Any, classnames: Any, templates: Any, device: Any, amp: bool = True
    ) -> Any:
        on_gpu = str(device).startswith("cuda")
        return classifier(model, tokenizer, classnames, templates, device, amp=amp and on_gpu)

    def accuracy(output: Any, target: Any, topk: Sequence[int] = (1,)) -> list[float]:
        best = output.topk(max(topk), 1, True, True)[1]
        right = best == target.view(-1, 1)
        return [float(right[:, :k].float().sum()) / len(target) for k in topk]

    zeroshot_classification.zero_shot_classifier = zero_shot_classifier
    zeroshot_classification.accuracy = accuracy


def _retrieve_in_fp32(zeroshot_retrieval: Any) -> None:
    original = zeroshot_retrieval.evaluate

    def evaluate(*arguments: Any, device: Any, amp: bool = True, **options: Any) -> Any:
        on_gpu = str(device).startswith("cuda")
        return original(*arguments, device=device, amp=amp and on_gpu, **options)

    zeroshot_retrieval.evaluate = evaluate


def _converted_sets(datasets: Any) -> None:
    original = datasets.load_dataset

    def load_dataset(path: str, *arguments: Any, **options: Any) -> Any:
        options.pop("ignore_verifications", None)
        if not path.startswith("nlphuji/"):
            return original(path, *arguments, **options)
        cache = options.get("cache_dir")
        here = sorted((Path(cache).parent / path).glob("test-*.parquet")) if cache else []
        if not here:
            return original(path, *arguments, **{"revision": "refs/convert/parquet", **options})
        return original("parquet", data_files={"test": [str(file) for file in here]}, **options)

    datasets.load_dataset = load_dataset


# --- submission ---------------------------------------------------------------------------------------


def _from_submission(patch: str) -> Callable[[Any], None]:
    """Return a patch of the module `submission` beside this one, which is loaded when it is applied."""

    def apply(module: Any) -> None:
        path = Path(__file__).with_name("submission.py")
        spec = importlib.util.spec_from_file_location("ecodatum_datacomp_submission", path)
        assert spec is not None and spec.loader is not None
        submission = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(submission)
        getattr(submission, patch)(module)

    return apply


def _hub_as_it_was(hub: Any) -> None:
    _old_names_of_the_hub(hub)
    _from_submission("upload_once")(hub)


ALIASES: tuple[Alias, ...] = (
    Alias(
        "training",
        "open_clip_torch from 2.27",
        "train.py imports open_clip's trainer under its former name; it is open_clip_train now",
        instead=_open_clip_train,
    ),
    Alias(
        "scale_configs",
        "any",
        "a scale of one's own: the scripts know only DataComp's five",
        patch=_add_scale,
    ),
    Alias(
        "open_clip",
        "any",
        "a scale of one's own: makes its model known to open_clip",
        patch=_add_model,
    ),
    Alias(
        "open_clip_train.main",
        "any",
        "a scale of one's own: hands on what train.py has no option for (weight decay, crop, device)",
        patch=_add_arguments,
    ),
    Alias(
        "webdataset.tariterators",
        "webdataset above 0.2.86",
        "a tar's end is marked by an empty item, of which open_clip's trainer and the resharder die",
        patch=_drop_end_markers,
    ),
    Alias(
        "webdataset.writer",
        "webdataset from 0.2.50",
        "resharder.py takes Pipe out of webdataset.writer.gopen, which is a function now, no module",
        patch=_gopen_with_pipe,
    ),
    Alias(
        "webdataset.pipeline",
        "webdataset above 0.2.31",
        "wilds_eval.py relies on a pipeline being changed in place",
        patch=_compose_in_place,
    ),
    Alias(
        "webdataset.compat",
        "webdataset above 0.2.90",
        "evaluate.py reads with four workers; sets with fewer shards are refused by a new check",
        patch=_no_empty_check,
    ),
    Alias(
        "img2dataset",
        "where it is absent",
        "resharder.py imports a blurrer from it, and uses it with --apply-blur only",
        instead=_no_blurrer,
    ),
    Alias(
        "gcld3",
        "where it is absent (it is built from source)",
        "baselines.py imports it whatever the baseline; only laion2b uses it",
        instead=_placeholder,
    ),
    Alias(
        "fasttext",
        "fasttext-predict, any",
        "the maintained package predicts only; image_based counts tokens as fastText does",
        patch=_fasttext_tokenize,
    ),
    Alias(
        "fasttext.FastText",
        "fasttext up to 0.9.3 under NumPy 2; fasttext-predict up to 0.9.2.4",
        "one refuses a single text (it copies an array in a way that NumPy 2 doesn't), the other a list",
        patch=_predict_texts_and_lists,
    ),
    Alias(
        "torch",
        "torch from 2.6",
        "torch.load refuses the pickled arrays of the centroids; arrays, and no code, are allowed",
        patch=_load_arrays,
    ),
    Alias(
        "baselines.utils",
        "machines without a network",
        "assets that lie in ECODATUM_ASSETS are not downloaded again",
        patch=_assets_from_our_folder,
    ),
    Alias(
        "baselines.apply_filter",
        "machines without a GPU",
        "image_based demands CUDA for one matrix product, which the CPU can do",
        patch=_centroids_on_the_cpu,
    ),
    Alias(
        "huggingface_hub",
        "huggingface_hub from 1.0",
        "evaluate.py imports Repository, which is gone, and never uses it; download_upstream.py gives"
        " snapshot_download an option that is gone; and when `ecodatum submit` runs evaluate.py, a second"
        " attempt would upload what has arrived already",
        patch=_hub_as_it_was,
    ),
    Alias(
        "clip_benchmark.metrics.zeroshot_classification",
        "clip_benchmark from 1.6 (accuracy: under NumPy from 2.4)",
        "on the CPU the classifier is built in bfloat16 and no longer multiplies with float32 features;"
        " accuracy makes a number of an array of one",
        patch=_classify_in_fp32,
    ),
    Alias(
        "clip_benchmark.metrics.zeroshot_retrieval",
        "clip_benchmark from 1.6",
        "on the CPU retrieval would be computed in bfloat16",
        patch=_retrieve_in_fp32,
    ),
    Alias(
        "datasets",
        "datasets from 4.0",
        "sets that are scripts on the hub no longer load: their parquet form is read, from the folder of"
        " the evaluation sets or from the hub",
        patch=_converted_sets,
    ),
    Alias(
        "requests",
        "any, when `ecodatum submit` runs evaluate.py",
        "a second attempt would send a second record; it ends with 0 whatever was answered; and its"
        " addresses are written into it, so that nothing could be tried out",
        patch=_from_submission("put_once"),
    ),
)


class _Patching(importlib.abc.Loader):
    """Loads as another loader does, and then changes the module."""

    def __init__(self, loader: Any, patches: Sequence[Callable[[Any], None]]) -> None:
        self._loader, self._patches = loader, patches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        for patch in self._patches:
            patch(module)


class _Existing(importlib.abc.Loader):
    """Gives a module that is there already another name."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class AliasFinder(importlib.abc.MetaPathFinder):
    """Finds the modules that aliases are for."""

    def __init__(self, aliases: Sequence[Alias] = ALIASES) -> None:
        self._aliases = aliases
        self._busy: set[str] = set()
        self._standing_in: set[str] = set()

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return how to load a module that an alias is for, and None for every other."""
        if name in self._busy:
            return None
        stand_in = self._stand_in(name)
        if stand_in is not None:
            return importlib.machinery.ModuleSpec(name, _Existing(stand_in))
        patches = [alias.patch for alias in self._aliases if alias.module == name and alias.patch]
        real = self._real(name) if patches else None
        if real is not None and real.loader is not None:
            real.loader = _Patching(real.loader, patches)
        return real

    def _stand_in(self, name: str) -> ModuleType | None:
        """Return what stands in for an absent module, or for one inside it."""
        for alias in self._aliases:
            inside = name.startswith(f"{alias.module}.") and alias.module in self._standing_in
            if alias.instead and (inside or (name == alias.module and self._real(name) is None)):
                self._standing_in.add(alias.module)
                return alias.instead(name)
        return None

    def _real(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Return what the other finders find; a folder that is no package is none."""
        self._busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._busy.discard(name)
        return spec if spec is not None and spec.origin is not None else None


def install() -> None:
    """Let the aliases take effect in this process from now on."""
    sys.meta_path.insert(0, AliasFinder())
