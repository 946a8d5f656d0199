"""Cluster profiles: what a YAML in slurm/ says about a Slurm cluster, checked before anything runs."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ecodatum.content import find, read_yaml
from ecodatum.errors import ConfigError
from ecodatum.validation import explain

Count = Annotated[int, Field(ge=1)]
Line = Annotated[str, Field(pattern=r"^[^\n]*$")]


def _text(value: Any) -> Any:
    """Take YAML's numbers for the words that they are to sbatch."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Word = Annotated[
    str, BeforeValidator(_text, json_schema_input_type=str | int | float), Field(pattern=r"^\S+$")
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Resources(_Model):
    """What a task of a stage asks of Slurm; what a stage leaves out is as in the profile's `default`.

    cpus: of each process. memory_gb, gpus: of a node. nodes, processes (a node): more than one of these
    is a training over several processes. units: the most units that a task does one after another.
    parallel: the most tasks of an array that run at a time. timeouts: how often a task may reach its time
    limit and go on. sbatch: further options, by their long name; true for an option without value.
    """

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    cpus: Count = 1
    memory_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    hours: Annotated[float, Field(gt=0, strict=False)] = 1
    nodes: Count = 1
    processes: Count = 1
    units: Count | None = None
    parallel: Count = 256
    timeouts: Annotated[int, Field(ge=0)] = 3
    sbatch: dict[Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")], Word | Literal[True]] = {}

    @property
    def minutes(self) -> int:
        """The time limit as Slurm counts it."""
        return math.ceil(self.hours * 60)

    @property
    def world_size(self) -> int:
        """The processes of a task, over all its nodes."""
        return self.nodes * self.processes


class Profile(_Model):
    """A Slurm cluster: its limits, what its shells need, and the resources of each stage.

    device: what stages compute on, `cpu` or `cuda`. max_array_size: Slurm's MaxArraySize. max_tasks: the
    most array tasks that an experiment may have in the queue (MaxSubmitJobs); units are packed to fit.
    retries: how often a task that was killed starts again. signal_seconds: how long before its time limit
    a task is told to save itself. visible_after_seconds: how long another node's files may take to be seen.
    scratch: a folder on the node for temporary files, where $VARIABLES stand for what they are there.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    max_array_size: Annotated[int, Field(ge=2)] = 1001
    max_tasks: Annotated[int, Field(ge=1)] = 5000
    retries: Annotated[int, Field(ge=0)] = 2
    signal_seconds: Count = 120
    visible_after_seconds: Annotated[float, Field(ge=0, strict=False)] = 60
    setup: Annotated[tuple[Line, ...], Field(strict=False)] = ()
    scratch: Annotated[str, Field(pattern=r'^[^"`\n]+$')] | None = None
    default: Resources = Resources()
    stages: dict[str, Resources] = {}

    @model_validator(mode="after")
    def _time_to_save(self) -> Self:
        for name, resources in {"default": self.default, **self.stages}.items():
            if self.signal_seconds >= resources.minutes * 60:
                raise ValueError(
                    f"{name}: hours: {resources.minutes} min is no longer than signal_seconds,"
                    f" {self.signal_seconds} s"
                )
        return self

    def resources(self, stage: str) -> Resources:
        """Return what a stage asks for: its own entry over the default."""
        own = self.stages.get(stage)
        return self.default if own is None else _over(self.default, own)


def _over(default: Resources, own: Resources) -> Resources:
    given: dict[str, Any] = {name: getattr(own, name) for name in own.model_fields_set}
    if "sbatch" in given:
        given["sbatch"] = {**default.sbatch, **given["sbatch"]}
    return default.model_copy(update=given)


def load_profile(name: str, *, stages: frozenset[str]) -> Profile:
    """Read the profile that `name` (a path, or a name in slurm/) stands for.

    Raises ConfigError that names the file, the key and what is allowed; `stages` are the allowed stages.
    """
    path = find(name, "slurm")
    try:
        profile = Profile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise explain(error, path, Profile) from None
    for stage in profile.stages:
        if stage not in stages:
            raise ConfigError(
                f"stages: no stage {stage!r} (there are: {', '.join(sorted(stages))})", where=path
            )
    return profile
