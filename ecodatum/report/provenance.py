"""What made the results: manifests of all units, versions, checksums, fingerprints, recipes, the commit."""

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ecodatum.content import content_root
from ecodatum.curate.recipe import Recipe
from ecodatum.pipeline.graph import STAGES, Graph, Run
from ecodatum.pipeline.training_jobs import Evaluate, Train
from ecodatum.pipeline.units import Unit


@dataclass(frozen=True)
class StageCost:
    """What a stage took: units, how many are done, their seconds together and the longest of them.

    done_size: the work that is done, in `of` (rows, samples, tasks). gpu_seconds: of those on GPUs.
    """

    stage: str
    units: int
    done: int
    seconds: float
    longest: float
    done_size: int
    of: str
    gpu_seconds: float

    @property
    def missing(self) -> int:
        """How many units are still to be done."""
        return self.units - self.done


@dataclass(frozen=True)
class Made:
    """What the manifests of an experiment's finished units tell.

    versions: by library, all that were used. assets: by operator and parameter, the sha256 of the files.
    finished: the first and the last time of day that a unit finished, ISO 8601.
    """

    costs: tuple[StageCost, ...]
    versions: Mapping[str, tuple[str, ...]]
    assets: Mapping[str, tuple[str, ...]]
    finished: tuple[str, str] | None
    hosts: int

    @property
    def gpu_seconds(self) -> float:
        """The seconds on GPUs of all stages."""
        return sum(cost.gpu_seconds for cost in self.costs)


def made(graph: Graph) -> Made:
    """Read the manifests of all units that are done."""
    costs, versions, assets = [], dict[str, set[str]](), dict[str, set[str]]()
    hosts, finished = set(), []
    for stage in STAGES:
        units = [unit for unit in graph.units if unit.stage == stage]
        if not units:
            continue
        costs.append(cost := _Cost(stage, units))
        for manifest in cost.manifests:
            hosts.add(manifest["host"])
            finished.append(manifest["finished"])
            for library, version in manifest["versions"].items():
                versions.setdefault(library, set()).add(version)
            for name, sums in _assets(manifest["parameters"]):
                assets.setdefault(name, set()).update(sums)
    return Made(
        tuple(cost.total() for cost in costs),
        {library: tuple(sorted(found)) for library, found in versions.items()},
        {name: tuple(sorted(found)) for name, found in sorted(assets.items())},
        (min(finished), max(finished)) if finished else None,
        len(hosts),
    )


class _Cost:
    """The units of a stage with the manifests of those that are done."""

    def __init__(self, stage: str, units: list[Unit]) -> None:
        self._stage, self._units = stage, units
        self._done = [(unit, [output.read() for output in unit.outputs]) for unit in units if unit.done()]

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of all outputs."""
        return [manifest for _, found in self._done for manifest in found]

    def total(self) -> StageCost:
        """Add up; the outputs of a unit were made together, unless an earlier experiment made some."""
        seconds = [max(manifest["seconds"] for manifest in found) for _, found in self._done]
        gpus = [_gpus(unit) * taken for (unit, _), taken in zip(self._done, seconds, strict=True)]
        size = sum(unit.size for unit, _ in self._done)
        return StageCost(
            self._stage,
            len(self._units),
            len(self._done),
            sum(seconds),
            max(seconds, default=0.0),
            size,
            self._units[0].of,
            sum(gpus),
        )


def _gpus(unit: Unit) -> int:
    """Return how many GPUs a unit works on."""
    if isinstance(unit.job, Train):
        return unit.job.processes if unit.job.device == "cuda" else 0
    if isinstance(unit.job, Evaluate):
        return int(unit.job.device == "cuda")
    return int(unit.resources == "score_gpu")


def _assets(parameters: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Yield the operator's name and parameter, and the sha256 of its files, from a scoring's manifest."""
    for key, files in (parameters.get("assets") or {}).items():
        for parameter, sums in files.items():
            yield f"{parameters['operators'][key]['name']}: {parameter}", sums


def commit() -> str | None:
    """Return the commit of the checkout that this code is from, with a plus sign if files differ from it.

    None where the code is no checkout.
    """
    if not (content_root() / ".git").exists():
        return None
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if head and changed else head or None


def _git(*arguments: str) -> str:
    line = ["git", "-C", str(content_root()), *arguments]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML, with the values that were used and files by their names."""
    document = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return str(yaml.safe_dump(_named(document), sort_keys=False, allow_unicode=True, width=100))


def experiment_text(graph: Graph) -> str:
    """Return all values of an experiment as YAML; of its filters, whose recipes stand elsewhere, names."""
    document = graph.experiment.model_dump(mode="json", by_alias=True, exclude={"filters"})
    document["filters"] = list(dict.fromkeys(run.filter.name for run in graph.runs))
    return str(yaml.safe_dump(_named(document), sort_keys=False, allow_unicode=True, width=100))


def _named(value: Any) -> Any:
    """Put a file's name in the place of its path on this machine."""
    if isinstance(value, Mapping):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def fingerprints(runs: Iterable[Run]) -> list[tuple[str, str, str, str]]:
    """Return a row for each output of each run: run, what it is, fingerprint, and `done` or `missing`."""
    rows = []
    for run in runs:
        kinds = {"subset": run.subset, "label model": run.model, "training": run.training}
        for kind, output in {**kinds, "evaluation": run.evaluation}.items():
            if output:
                rows.append((run.name, kind, output.fingerprint, "done" if output.done() else "missing"))
    return rows
