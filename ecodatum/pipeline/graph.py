"""The graph of an experiment: every unit of every stage, known before anything runs."""

from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import ConfigError
from ecodatum.evaluate.groups import divided
from ecodatum.evaluate.tasks import Task, load_tasks
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.pipeline.curation import Curation
from ecodatum.pipeline.experiment import Experiment, Filter, load_filters
from ecodatum.pipeline.placement import Placement
from ecodatum.pipeline.training_jobs import Collect, Evaluate, Reshard, Train
from ecodatum.pipeline.units import Output, Unit
from ecodatum.pool.archive import unpacked
from ecodatum.pool.pool import Pool, open_pool
from ecodatum.train.scales import Scale, load_scale

STAGES: Final = (
    "score",
    "calibrate",
    "deduplicate",
    "vote",
    "fit",
    "select",
    "reshard",
    "train",
    "evaluate",
    "collect",
)

#: Raise a stage's number when its result changes for the same input.
_VERSIONS: Final = {"reshard": 1, "train": 1, "evaluate": 1, "collect": 1}


@dataclass(frozen=True)
class Run:
    """One training of an experiment: a filter and a seed, with what was made for it."""

    filter: Filter
    seed: int
    subset: Output
    model: Output | None
    training: Output
    evaluation: Output

    @property
    def name(self) -> str:
        """The run's name in folders, logs and W&B."""
        return f"{self.filter.name}-seed{self.seed}"


@dataclass(frozen=True)
class Graph:
    """An experiment's units in the order of the stages, and its runs."""

    experiment: Experiment
    pool: Pool
    work: Path
    scale: Scale
    tasks: tuple[Task, ...]
    units: tuple[Unit, ...]
    runs: tuple[Run, ...]

    @property
    def folder(self) -> Path:
        """Where the experiment's logs and tables go."""
        return self.work / self.experiment.name


def build_graph(experiment: Experiment, work: Path, *, device: str | Placement = "auto") -> Graph:
    """Return the graph of an experiment; unpacks what is packed, and runs nothing.

    device: where it runs; `auto` is what it was last sent to a cluster for, else what is here.
    Raises ConfigError or PoolError for all that can be known to be wrong beforehand.
    """
    work = work.expanduser().resolve()
    filters = load_filters(experiment)
    scale = load_scale(experiment.train.scale, experiment.folder)
    tasks = load_tasks(experiment.evaluate.tasks, experiment.folder)
    pool = open_pool(unpacked(experiment.path(experiment.pool), work / "unpacked"))
    data = experiment.path(experiment.evaluate.data)
    evalsets = unpacked(data, work / "unpacked")
    _require_sets(evalsets, tasks)
    placement = Placement.of(work / experiment.name, device)
    place = resolve_device(placement.device)
    curation = Curation(pool, work, work / experiment.name / "logs", place)
    curation.plan(filters)
    builder = _Builder(experiment, curation, scale, tasks, evalsets, place, placement.processes)
    builder.data_mark = file_fingerprint(data) if data.is_file() else _folder_mark(data)
    runs = builder.plan(filters)
    units = tuple(curation.units + builder.units)
    return Graph(experiment, pool, work, scale, tasks, units, runs)


def _require_sets(evalsets: Path, tasks: tuple[Task, ...]) -> None:
    """Notice before anything runs that evaluation sets are not there."""
    absent = [task.data for task in tasks if not (evalsets / task.data).is_dir()]
    if absent:
        raise ConfigError(
            f"{len(absent)} of {len(tasks)} evaluation sets are not here: {', '.join(absent[:3])}",
            where=evalsets,
            todo="set evaluate.data to the folder that holds them all",
        )


class _Builder:
    """Adds the units after curation."""

    data_mark: str

    def __init__(
        self,
        experiment: Experiment,
        curation: Curation,
        scale: Scale,
        tasks: tuple[Task, ...],
        data: Path,
        device: str,
        processes: int,
    ) -> None:
        self.experiment, self.curation, self.scale = experiment, curation, scale
        self.tasks, self.data, self.device, self.processes = tasks, data, device, processes
        self.units: list[Unit] = []

    def plan(self, filters: tuple[Filter, ...]) -> tuple[Run, ...]:
        shards = {item.name: self._reshard(item.name) for item in filters}
        runs = [
            self._train(item, seed, shards[item.name]) for seed in self.experiment.seeds for item in filters
        ]
        for run in runs:
            self._evaluate(run)
        return tuple(runs)

    def _reshard(self, name: str) -> list[Output]:
        subset, size = self.curation.subsets[name], self.experiment.train.shard_size
        outputs = []
        for part in self.curation.pool.parts:
            mark = _mark("reshard", [subset.fingerprint, part.fingerprint, part.shards_fingerprint, size])
            output = Output(self.curation.work / "shards" / name / f"{part.name}@{mark}", mark)
            samples = sum(shard.samples for shard in part.shards)
            job = Reshard(part, subset.path, size)
            self._add("reshard", f"{name}-{part.name}", output, job, (subset,), samples, "samples")
            outputs.append(output)
        return outputs

    def _train(self, item: Filter, seed: int, shards: list[Output]) -> Run:
        settings = self.experiment.train
        how = [self.scale.identity(), seed, settings.workers, settings.precision, self.device]
        if self.processes > 1:
            how.append(self.processes)
        if settings.engine != "builtin":
            how.append(settings.engine)
        mark = _mark("train", [[output.fingerprint for output in shards], how])
        name = f"{item.name}-seed{seed}"
        training = Output(self.curation.work / "trainings" / f"{name}@{mark}", mark)
        job = Train(
            training.path,
            self.scale,
            tuple(output.path for output in shards),
            seed,
            settings.workers,
            settings.precision,
            self.device,
            settings.engine,
            self.processes,
        )
        seen = self.scale.samples_seen
        self._add("train", name, training, job, tuple(shards), seen, "samples", resumable=True)
        evaluation = self._evaluation(name, training, self.tasks)
        subset, model = self.curation.subsets[item.name], self.curation.models.get(item.name)
        return Run(item, seed, subset, model, training, evaluation)

    def _evaluation(self, name: str, training: Output, tasks: tuple[Task, ...]) -> Output:
        """Return where results of a training on tasks go; the same however the evaluation is divided."""
        how = self.experiment.evaluate
        listed = [task.model_dump(mode="json") for task in tasks]
        depends = [training.fingerprint, listed, self.data_mark, how.batch_size, self.device]
        depends += [value for value in (how.engine, how.precision) if value not in ("builtin", "fp32")]
        mark = _mark("evaluate", depends)
        return Output(self.curation.work / "evaluations" / f"{name}@{mark}", mark)

    def _evaluate(self, run: Run) -> None:
        groups = divided(self.tasks, self.experiment.evaluate.units)
        names = [f"{run.name}-{n}of{len(groups)}" for n in range(1, len(groups) + 1)]
        outputs = [run.evaluation]
        if len(groups) == 1:
            names = [run.name]
        else:
            outputs = [
                self._evaluation(*each) for each in zip(names, repeat(run.training), groups, strict=False)
            ]
        for name, output, tasks in zip(names, outputs, groups, strict=True):
            how = self.experiment.evaluate
            job = Evaluate(self.scale, run.training.path, tasks, self.data, how, self.device)
            needs = (run.training,)
            self._add("evaluate", name, output, job, needs, len(tasks), "tasks", resumable=True)
        if len(groups) > 1:
            join = Collect(tuple(output.path for output in outputs), self.tasks)
            self._add("collect", run.name, run.evaluation, join, tuple(outputs), len(self.tasks), "tasks")

    def _add(
        self,
        stage: str,
        name: str,
        output: Output,
        job: Any,
        needs: tuple[Output, ...],
        size: int,
        of: str,
        *,
        resumable: bool = False,
    ) -> None:
        log = self.curation.logs / stage / f"{name}.log"
        self.units.append(Unit(stage, name, (output,), job, needs, size, of, resumable, log))


def _mark(stage: str, depends: Any) -> str:
    return fingerprint([stage, _VERSIONS[stage], depends])


def _folder_mark(folder: Path) -> str:
    """Return a hash over the names and content of a folder's files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint([[str(path.relative_to(folder)), file_fingerprint(path)] for path in files])


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`; imports torch only where there is a GPU, so that planning is quick.

    Raises ConfigError for any other word.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"no such device: {device!r}", where="--device", todo="use cpu, cuda or auto")
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
