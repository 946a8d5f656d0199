"""Experiments: one YAML says which pool, which filters, which seeds, and how to train and evaluate."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ecodatum.content import content_root, find, read_yaml
from ecodatum.curate.recipe import Recipe, load_recipe
from ecodatum.errors import ConfigError
from ecodatum.train.engines import Engine
from ecodatum.validation import explain

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class FilterSpec(_Model):
    """A filter of an experiment: a recipe, some of its values set anew, or a ready-made subset file."""

    name: Name | None = None
    title: str | None = None
    recipe: str | None = None
    set: dict[str, Any] = {}
    subset: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.recipe is None) == (self.subset is None):
            raise ValueError("a filter needs either recipe or subset")
        if self.subset is not None and (self.name is None or self.set):
            raise ValueError("a filter given by a subset needs a name, and has no values to set")
        return self


class TrainSpec(_Model):
    """How to train. `workers` are the loader's processes; like the seed they decide the samples' order.

    `engine`: the built-in one, which repeats to the bit, or DataComp's own train.py.
    """

    scale: str
    engine: Engine = "builtin"
    workers: Annotated[int, Field(ge=0)] = 4
    precision: Literal["amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "fp32"] = "amp"
    shard_size: Annotated[int, Field(ge=1)] = 10_000


class EvaluateSpec(_Model):
    """How to evaluate: the task list, and the folder (or `.tar.xz`) of evaluation sets.

    `engine`: the built-in one, or DataComp's own evaluate.py; `precision`: the model's. `units`: how many
    array tasks a run's evaluation is divided into, by cost.
    """

    tasks: str = "datacomp"
    data: str
    engine: Engine = "builtin"
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: Annotated[int, Field(ge=1)] = 64
    units: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _possible(self) -> Self:
        own = (self.tasks, self.precision, self.units)
        if self.engine == "datacomp" and own != ("datacomp", "fp32", 1):
            raise ValueError("engine datacomp evaluates DataComp's tasks, in fp32, in one unit")
        return self


def _unquoted_off(value: Any) -> Any:
    """Take YAML's `off`, which it reads as false, for the word."""
    return "off" if value is False else value


class TrackingSpec(_Model):
    """Where runs are tracked. W&B's key comes from its own environment or login, never from here."""

    wandb: Annotated[Literal["offline", "online", "off"], BeforeValidator(_unquoted_off)] = "offline"
    project: str = "ecodatum"
    entity: str | None = None


class Experiment(_Model):
    """A pool × filters × seeds, with how to train, evaluate and track."""

    name: Name
    title: str = ""
    pool: str
    filters: Annotated[tuple[FilterSpec, ...], Field(min_length=1, strict=False)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, strict=False)] = (0,)
    train: TrainSpec
    evaluate: EvaluateSpec
    tracking: TrackingSpec = TrackingSpec()
    folder: Annotated[Path, Field(exclude=True, repr=False)] = Path()

    def path(self, value: str) -> Path:
        """Return a path of the experiment: absolute, or beside its file, or among the content folders."""
        path = Path(value).expanduser()
        candidates = [self.folder / path, content_root() / path]
        return next((c.resolve() for c in candidates if c.exists()), (self.folder / path).resolve())


class Filter(_Model):
    """A filter that is ready to run: its name in tables, and its recipe or its subset file."""

    name: str
    title: str
    recipe: Recipe | None = None
    subset: Path | None = None


def load_experiment(
    name: str, *, seeds: tuple[int, ...] | None = None, wandb: str | None = None
) -> Experiment:
    """Read the experiment that `name` (a path, or a name in experiments/) stands for.

    seeds, wandb: take the place of `seeds` and `tracking.wandb` in the file.
    Raises ConfigError that names the file, the key and what is allowed.
    """
    path = find(name, "experiments")
    document = read_yaml(path)
    if "folder" in document:
        raise ConfigError("unknown key 'folder'", where=path)
    listed = document.get("filters")
    if isinstance(listed, list):
        document["filters"] = [{"recipe": f} if isinstance(f, str) else f for f in listed]
    if seeds is not None:
        document["seeds"] = list(seeds)
    if wandb is not None:
        document["tracking"] = {**(document.get("tracking") or {}), "wandb": wandb}
    try:
        experiment = Experiment.model_validate({**document, "folder": path.parent})
    except ValidationError as error:
        raise explain(error, path, Experiment) from None
    if len(set(experiment.seeds)) < len(experiment.seeds):
        raise ConfigError("a seed is listed twice", where=path)
    return experiment


def load_filters(experiment: Experiment) -> tuple[Filter, ...]:
    """Return the experiment's filters, their recipes read and checked; raises ConfigError."""
    filters = tuple(_load_filter(spec, experiment) for spec in experiment.filters)
    names = [f.name for f in filters]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two filters are named {name!r}", where=experiment.name, todo="give one of them a `name`"
            )
    return filters


def _load_filter(spec: FilterSpec, experiment: Experiment) -> Filter:
    if spec.recipe is None:
        path = experiment.path(spec.subset or "")
        if not path.is_file():
            raise ConfigError("no such subset file", where=path)
        return Filter(name=spec.name or "", title=spec.title or spec.name or "", subset=path)
    recipe = load_recipe(spec.recipe, beside=experiment.folder, overrides=spec.set)
    return Filter(name=spec.name or recipe.name, title=spec.title or recipe.title, recipe=recipe)
