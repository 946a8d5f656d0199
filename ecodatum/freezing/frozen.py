"""Frozen runs: one JSON file with a run's settings written out, versions, checksums and scores."""

import base64
import json
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ecodatum import __version__
from ecodatum.content import content_root
from ecodatum.curate.recipe import Recipe
from ecodatum.errors import ConfigError, RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.files import write_json
from ecodatum.fingerprint import fingerprint
from ecodatum.operators.assets import checksum
from ecodatum.operators.clip_models import config_files
from ecodatum.operators.operator import create
from ecodatum.pipeline.chain import chain, contradictions, find_run
from ecodatum.pipeline.curation_jobs import Score
from ecodatum.pipeline.experiment import load_experiment
from ecodatum.pipeline.graph import Graph, Run, build_graph
from ecodatum.pipeline.placement import Placement
from ecodatum.pipeline.training_jobs import CHECKPOINT, RESULTS, Train, read_results
from ecodatum.report.provenance import commit
from ecodatum.train.scales import FIXED, Scale
from ecodatum.validation import explain

EXPERIMENT: Final = "experiment.yaml"
_RECIPE, _SCALE, _TASKS = "recipe.yaml", "scale.yaml", "tasks.yaml"
#: The files of a model of one's own are written into the frozen file up to this size.
_MOST_BYTES: Final = 4 << 20
#: Stands for the folder of the shipped content, so that its files are found wherever that is.
_CONTENT: Final = "<ecodatum>"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Software(_Model):
    """What ran here when the run was frozen; the manifests tell what each step ran with."""

    ecodatum: str
    commit: str | None
    python: str
    platform: str
    packages: dict[str, str]


class PoolState(_Model):
    """A pool's content: rows and fingerprints of its metadata and shards, by part."""

    fingerprint: str
    rows: int
    parts: dict[str, tuple[int, str, str]]


class FileState(_Model):
    """A file of the run: its place in the work folder, its size in bytes, and its sha256."""

    path: str
    size: int
    sha256: str


class Frozen(_Model):
    """A frozen run.

    files: what is needed beside the experiment, by name: its recipe, scale and tasks as texts, a model's
    own files in base64. placement: device and processes. units: each step's fingerprint, by stage and name.
    assets: by operator and parameter, the sha256 of the files. scores: means of the groups of tasks.
    """

    format: Literal[1] = 1
    run: str
    experiment: dict[str, Any]
    files: dict[str, str]
    placement: tuple[str, int]
    seeds: dict[str, int]
    software: Software
    pool: PoolState
    assets: dict[str, list[str]]
    units: dict[str, str]
    outputs: dict[str, FileState]
    scores: dict[str, float]

    def write(self, path: Path) -> None:
        """Write it with a fingerprint of itself, all or nothing."""
        document = self.model_dump(mode="json")
        write_json(path, {**document, "digest": fingerprint(document)})


def read_frozen(path: Path) -> Frozen:
    """Read a frozen run; raises ConfigError when it is none, or was changed since it was written."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        digest = document.pop("digest")
        frozen = Frozen.model_validate(document)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, ValidationError):
            raise explain(error, path, Frozen) from None
        raise ConfigError(f"is no frozen run: {error!r}", where=path) from None
    if digest != fingerprint(frozen.model_dump(mode="json")):
        raise ConfigError("was changed after it was written", where=path, todo="freeze the run again")
    return frozen


def freeze(graph: Graph, name: str) -> Frozen:
    """Return all that it takes to make a finished run again.

    Raises RunError when the run is not finished, or is not what its manifests say.
    """
    run = find_run(graph, name)
    for unit, output in chain(graph, run):
        for problem in contradictions(unit, output):
            raise RunError(
                f"cannot be frozen: {unit.stage} {unit.name}: {problem}",
                where=name,
                todo="`ecodatum run` makes what is missing or has changed",
            )
    frozen = Frozen(
        run=name,
        experiment=_experiment(graph, run),
        files=_files(graph, run.filter.recipe),
        placement=_placement(graph, run),
        seeds={"training": run.seed, **_label_model_seed(run.filter.recipe)},
        software=software(),
        pool=pool_state(graph),
        assets={},
        units={},
        outputs={key: _state(file, graph.work) for key, file in _outputs(run).items()},
        scores=aggregate(read_results(run.evaluation.path), graph.tasks),
    )
    with tempfile.TemporaryDirectory() as folder:
        alone = thaw(frozen, Path(folder), graph.work)
        return frozen.model_copy(update={"assets": asset_sums(alone), "units": unit_marks(alone, name)})


def unpack(frozen: Frozen, folder: Path, *, pool: Path | None = None, data: Path | None = None) -> Path:
    """Write the run's experiment, with all that it names, into a folder, and return its YAML.

    pool, data: where the pool and the evaluation sets are now, if they have moved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    experiment = yaml.safe_load(_yaml(frozen.experiment).replace(_CONTENT, str(content_root())))
    if pool is not None:
        experiment["pool"] = str(pool.resolve())
    if data is not None:
        experiment["evaluate"]["data"] = str(data.resolve())
    for name, content in frozen.files.items():
        if name in (_RECIPE, _SCALE, _TASKS):
            text = content.replace(_CONTENT, str(content_root()))
            (folder / name).write_text(text, encoding="utf-8")
        else:
            (folder / Path(name).name).write_bytes(base64.b64decode(content))
    path = folder / EXPERIMENT
    path.write_text(yaml.safe_dump(experiment, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def thaw(
    frozen: Frozen, folder: Path, work: Path, *, pool: Path | None = None, data: Path | None = None
) -> Graph:
    """Return the graph of the run alone, as it is made from what there is now; see `unpack`."""
    experiment = load_experiment(str(unpack(frozen, folder, pool=pool, data=data)))
    return build_graph(experiment, work, device=Placement(*frozen.placement))


def _experiment(graph: Graph, run: Run) -> dict[str, Any]:
    """Return the experiment's document with this run alone, its files named as `unpack` writes them."""
    given = graph.experiment
    document = given.model_dump(mode="json", exclude_none=True, exclude={"filters"})
    item: dict[str, Any] = {"name": run.filter.name, "title": run.filter.title}
    if run.filter.recipe is None:
        item["subset"] = str(run.filter.subset)
    else:
        item["recipe"] = _RECIPE
    train, evaluate = document["train"], document["evaluate"]
    train["scale"] = graph.scale.name if graph.scale.name in FIXED else _SCALE
    evaluate["tasks"] = "datacomp" if evaluate["tasks"] == "datacomp" else _TASKS
    evaluate["data"] = str(given.path(given.evaluate.data))
    whole = {**document, "pool": str(given.path(given.pool)), "filters": [item], "seeds": [run.seed]}
    found: dict[str, Any] = yaml.safe_load(_yaml(whole).replace(str(content_root()), _CONTENT))
    return found


def _files(graph: Graph, recipe: Recipe | None) -> dict[str, str]:
    files = {}
    if recipe is not None:
        text = _yaml(recipe.model_dump(mode="json", by_alias=True, exclude_none=True))
        files[_RECIPE] = text.replace(str(content_root()), _CONTENT)
    if graph.experiment.evaluate.tasks != "datacomp":
        files[_TASKS] = _yaml({"tasks": [task.model_dump(mode="json") for task in graph.tasks]})
    if graph.scale.name not in FIXED:
        scale = graph.scale.model_dump(mode="json", exclude_none=True)
        files[_SCALE] = _yaml({**scale, "model": Path(graph.scale.model).name})
        files |= _model_files(graph.scale)
    return files


def _model_files(scale: Scale) -> dict[str, str]:
    files = config_files(scale.model_or_file) if scale.model.endswith(".json") else ()
    return {
        file.name: base64.b64encode(file.read_bytes()).decode()
        for file in files
        if file.stat().st_size <= _MOST_BYTES
    }


def _yaml(document: Any) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000))


def _placement(graph: Graph, run: Run) -> tuple[str, int]:
    job = next(unit.job for unit in graph.units if run.training in unit.outputs)
    assert isinstance(job, Train)
    return job.device, job.processes


def _label_model_seed(recipe: Recipe | None) -> dict[str, int]:
    ensemble = recipe is not None and recipe.labelling_functions
    return {"label_model": recipe.label_model.seed} if recipe is not None and ensemble else {}


def software() -> Software:
    """Return what runs here now."""
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return Software(
        ecodatum=__version__,
        commit=commit(),
        python=platform.python_version(),
        platform=platform.platform(),
        packages=dict(sorted(packages.items())),
    )


def pool_state(graph: Graph) -> PoolState:
    """Return the content of the graph's pool."""
    parts = {p.name: (p.rows, p.fingerprint, p.shards_fingerprint) for p in graph.pool.parts}
    return PoolState(fingerprint=graph.pool.fingerprint, rows=graph.pool.rows, parts=parts)


def asset_sums(graph: Graph) -> dict[str, list[str]]:
    """Return the sha256 of the files behind the operators' parameters; reads them whole."""
    sums: dict[str, list[str]] = {}
    for unit in graph.units:
        if isinstance(unit.job, Score):
            for spec in unit.job.operators.values():
                for key, found in create(spec.name, spec.parameters).checksums().items():
                    if found:
                        sums[f"{spec.name}.{key}"] = sorted({*sums.get(f"{spec.name}.{key}", ()), *found})
    return sums


def unit_marks(graph: Graph, name: str) -> dict[str, str]:
    """Return the fingerprints of all that a run rests on, by stage and name."""
    marks = {}
    for unit, output in chain(graph, find_run(graph, name)):
        what = f" {unit.job.operators[output.key].name}" if isinstance(unit.job, Score) else ""
        key = f"{unit.stage} {unit.name}{what}"
        marks[key if key not in marks else f"{key} {output.key}"] = output.fingerprint
    return marks


def _outputs(run: Run) -> dict[str, Path]:
    return {
        "subset": run.subset.path,
        "checkpoint": run.training.path / CHECKPOINT,
        "results": run.evaluation.path / RESULTS,
    }


def _state(file: Path, work: Path) -> FileState:
    path = file.relative_to(work).as_posix()
    return FileState(path=path, size=file.stat().st_size, sha256=checksum(file))
