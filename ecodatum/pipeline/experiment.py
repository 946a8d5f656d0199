"""Experiments: one YAML says which pool, which filters, which seeds, and how to train and evaluate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from ecodatum.content import content_root, find
from ecodatum.curate.ablation import Ablation, ablate
from ecodatum.curate.recipe import Recipe, load_recipe
from ecodatum.curate.schema import ROW_NAME
from ecodatum.errors import ConfigError
from ecodatum.pipeline.extends import read_extended
from ecodatum.pipeline.matrix import Matrix, Value, combinations
from ecodatum.train.engines import Engine
from ecodatum.validation import explain

Name = Annotated[str, Field(pattern=ROW_NAME)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class FilterSpec(_Model):
    """A filter of an experiment: a recipe, some of its values set anew, or a ready-made subset file.

    With `matrix` (values by dotted key of the recipe, or several recipes), `ablate`, or both it stands for
    several filters, a row each. What a row is called begins with `name`, if there is one.
    """

    name: Name | None = None
    title: str | None = None
    recipe: str | None = None
    set: dict[str, Any] = {}
    matrix: Matrix = {}
    ablate: Ablation | None = None
    subset: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if [self.recipe is not None, self.subset is not None, "recipe" in self.matrix].count(True) != 1:
            raise ValueError("a filter needs either recipe or subset (or several recipes in matrix)")
        if self.subset is not None and (self.name is None or self.set or self.matrix or self.ablate):
            raise ValueError(
                "a filter given by a subset needs a name, and has nothing to set, no matrix and no ablate"
            )
        return self


def _by_name(value: Any) -> Any:
    """Take a recipe's name alone for the filter that it is."""
    return {"recipe": value} if isinstance(value, str) else value


Listed = Annotated[FilterSpec, BeforeValidator(_by_name, json_schema_input_type=str | FilterSpec)]


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

    wandb: Annotated[
        Literal["offline", "online", "off"],
        BeforeValidator(_unquoted_off, json_schema_input_type=Literal["offline", "online", "off", False]),
    ] = "offline"
    project: str = "ecodatum"
    entity: str | None = None


class Experiment(_Model):
    """A pool × filters × seeds, with how to train, evaluate and track."""

    name: Name
    title: str = ""
    pool: str
    filters: Annotated[tuple[Listed, ...], Field(min_length=1, strict=False)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, strict=False)] = (0,)
    train: TrainSpec
    evaluate: EvaluateSpec
    tracking: TrackingSpec = TrackingSpec()
    file: SkipJsonSchema[Annotated[Path, Field(exclude=True, repr=False)]] = Path()

    @property
    def folder(self) -> Path:
        """Where the experiment's file lies."""
        return self.file.parent

    def path(self, value: str) -> Path:
        """Return a path of the experiment: absolute, or beside its file, or among the content folders."""
        path = Path(value).expanduser()
        candidates = [self.folder / path, content_root() / path]
        return next((c.resolve() for c in candidates if c.exists()), (self.folder / path).resolve())


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of an experiment's file; one that `extends` another may leave the rest to it."""
    found = Experiment.model_json_schema()
    whole: dict[str, Any] = {"required": found.pop("required"), "properties": {}}
    for part in ("train", "evaluate"):
        model = found["$defs"][found["properties"][part]["$ref"].rpartition("/")[2]]
        whole["properties"][part] = {"required": model.pop("required")}
    found["properties"]["extends"] = {
        "type": "string",
        "description": "Another experiment, whose mappings are merged with this file's; lists are replaced.",
    }
    found["if"] = {"required": ["extends"]}
    found["then"], found["else"] = {"required": ["name"]}, whole
    return found


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
    document = read_extended(path)
    if "file" in document:
        raise ConfigError("unknown key 'file'", where=path)
    if seeds is not None:
        document["seeds"] = list(seeds)
    if wandb is not None:
        document["tracking"] = {**(document.get("tracking") or {}), "wandb": wandb}
    try:
        experiment = Experiment.model_validate({**document, "file": path})
    except ValidationError as error:
        raise explain(error, path, Experiment) from None
    if len(set(experiment.seeds)) < len(experiment.seeds):
        raise ConfigError("a seed is listed twice", where=path)
    return experiment


def load_filters(experiment: Experiment) -> tuple[Filter, ...]:
    """Return the experiment's filters, a row each, their recipes read and checked; raises ConfigError."""
    filters = tuple(
        item
        for place, spec in enumerate(experiment.filters)
        for item in _load_filters(spec, experiment, f"filters.{place}")
    )
    names = [f.name for f in filters]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two filters are named {name!r}", where=experiment.file, todo="give one of them a `name`"
            )
    return filters


class _Part(NamedTuple):
    """What tells a row from the others of its entry: after a recipe's name, and after a given one."""

    full: str
    short: str


def _load_filters(spec: FilterSpec, experiment: Experiment, key: str) -> Iterator[Filter]:
    if spec.subset is not None:
        path = experiment.path(spec.subset)
        if not path.is_file():
            raise ConfigError("no such subset file", where=path)
        yield Filter(name=spec.name or "", title=spec.title or spec.name or "", subset=path)
        return
    for values in combinations(spec.matrix):
        chosen = values.pop("recipe", None)
        changes = {**spec.set, **{place: value.value for place, value in values.items()}}
        try:
            name = str(chosen.value) if chosen else spec.recipe or ""
            recipe = load_recipe(name, beside=experiment.folder, overrides=changes)
        except ConfigError as error:
            raise _in(error, experiment, key) from None
        parts = [_part(place, value) for place, value in values.items()]
        if chosen is not None:
            known = chosen.name if chosen.named else recipe.name
            parts.insert(0, _Part(chosen.name if chosen.named else "", known))
        if spec.ablate is None:
            yield _row(spec, recipe, recipe, parts)
            continue
        try:
            for how, what, smaller in ablate(recipe, spec.ablate):
                yield _row(spec, recipe, smaller, [*parts, _Part(f"{how}_{what}", what)])
        except ConfigError as error:
            raise _in(error, experiment, f"{key}.ablate") from None


def _in(error: ConfigError, experiment: Experiment, key: str) -> ConfigError:
    """Tell at which place of the experiment's file an error was met."""
    return ConfigError(f"{error.where}: {error.what}", where=f"{experiment.file}, {key}", todo=error.todo)


def _part(key: str, value: Value) -> _Part:
    """Tell a value apart: a number by the last word of its key besides, a name or a word by itself."""
    alone = value.named or isinstance(value.value, str)
    return _Part(value.name if alone else f"{key.rpartition('.')[2]}_{value.name}", value.name)


def _row(spec: FilterSpec, recipe: Recipe, made: Recipe, parts: list[_Part]) -> Filter:
    """Name a row: the entry's or the recipe's name and title, and what tells the row from the others."""
    name = [spec.name, *(p.short for p in parts)] if spec.name else [recipe.name, *(p.full for p in parts)]
    title = [p.short for p in parts] if spec.title else [p.full for p in parts]
    words = ", ".join(word.replace("_", " ") for word in title if word)
    return Filter(
        name="_".join(word for word in name if word),
        title=" ".join(filter(None, [spec.title or recipe.title, words])),
        recipe=made,
    )
