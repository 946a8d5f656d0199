"""Tasks: what is evaluated, as data; DataComp's forty, or a list of one's own."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecodatum.content import find, read_yaml
from ecodatum.errors import ConfigError
from ecodatum.validation import explain

Kind = Literal["classification", "groups", "rare_classes", "retrieval", "associations", "faces"]
Group = Literal["imagenet", "shifts", "vtab", "retrieval", "other"]

_SHIPPED: Final = Path(__file__).with_name("datacomp.yaml")
_CLASSIFICATION: Final = ("acc1", "acc5", "mean_per_class_recall")
_MAIN_METRICS: Final[dict[str, tuple[str, ...]]] = {
    "classification": _CLASSIFICATION,
    "rare_classes": (*_CLASSIFICATION, "acc_avg", "recall-macro_all", "F1-macro_all"),
    "retrieval": (
        "mean_recall@1",
        *(f"{kind}_retrieval_recall@{k}" for k in (1, 5, 10) for kind in ("image", "text")),
    ),
    "associations": (
        "avg_jaccard_score",
        *(f"jaccard_score_{group}" for group in ("5", "6", "10", "12", "5-6", "10-12")),
    ),
    "faces": (),
}


class Task(BaseModel):
    """One evaluation set and how it is scored.

    `kind` says how: `classification`; `groups`, classification also by the groups of a metadata value;
    `rare_classes`, classification with macro recall and F1; `retrieval`, images and texts both ways;
    `associations`, WinoGAViL's; `faces`, FairFace's and UTKFace's. `main_metric` is the one that is
    averaged (null: none). `data` is the set's folder below that of all sets, by default where DataComp
    keeps it. For `groups`, `metadata` names the values of each sample's npy, `group_by` those to group
    by, and a prediction counts as right when the class is among the `top`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=r"^[\w./-]+$")]
    name: str
    kind: Kind = "classification"
    main_metric: str | None = "acc1"
    group: Group = "other"
    data: str = ""
    metadata: tuple[str, ...] = ("region", "country")
    group_by: tuple[str, ...] = ("region",)
    top: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=1)] | None = None
    classes: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_folder(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "data" in values or not isinstance(values.get("key"), str):
            return values
        key: str = values["key"]
        if values.get("kind") in ("retrieval", "associations"):
            folder = f"nlphuji/{key.rpartition('/')[2]}"
        else:
            folder = f"wds_{key.removeprefix('fairness/').replace('/', '-')}_test"
        return {**values, "data": folder}

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = set(self.group_by) - set(self.metadata)
        if unknown:
            raise ValueError(f"group_by {', '.join(sorted(unknown))} is not among metadata")
        allowed = self.metrics()
        if self.main_metric is not None and self.main_metric not in allowed:
            raise ValueError(
                f"main_metric {self.main_metric!r} is none of a {self.kind} task's"
                f" (allowed: {', '.join(allowed) or 'null'})"
            )
        return self

    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that may be the task's main one."""
        if self.kind != "groups":
            return _MAIN_METRICS[self.kind]
        worst = [self.worst_group(field) for field in self.group_by]
        return (*_CLASSIFICATION, f"{self.group_metric}_avg", *worst)

    @property
    def group_metric(self) -> str:
        """The name that a group's accuracy goes by."""
        return "acc" if self.top == 1 else f"acc_top{self.top}"

    def worst_group(self, field: str) -> str:
        """Return the name of the accuracy of `field`'s worst group."""
        return f"{self.group_metric}_wg" if len(self.group_by) == 1 else f"{self.group_metric}_worst_{field}"


def load_tasks(name_or_path: str, beside: Path | None = None) -> tuple[Task, ...]:
    """Return DataComp's tasks for `datacomp`, or those of a YAML file (`tasks:` and a list of them).

    A file is looked for beside `beside` and in `experiments/`. Raises ConfigError, naming the file and
    the key, when it cannot be used.
    """
    path = _SHIPPED if name_or_path == "datacomp" else find(name_or_path, "experiments", beside=beside)
    document = read_yaml(path)
    listed = document.get("tasks")
    if set(document) != {"tasks"} or not isinstance(listed, list) or not listed:
        raise ConfigError("a task list has one key, `tasks`, with a list of tasks", where=path)
    tasks = tuple(_load_task(entry, number, path) for number, entry in enumerate(listed, start=1))
    for what, values in (("key", [t.key for t in tasks]), ("name", [t.name for t in tasks])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(f"two tasks have the {what} {twice[0]!r}", where=path)
    return tasks


def select(tasks: tuple[Task, ...], wanted: tuple[str, ...]) -> tuple[Task, ...]:
    """Return the tasks whose key or name is in `wanted`; raises ConfigError for one that there isn't."""
    unknown = set(wanted) - {task.key for task in tasks} - {task.name for task in tasks}
    if unknown:
        raise ConfigError(
            f"no such task: {', '.join(sorted(unknown))}",
            todo=f"there are: {', '.join(t.key for t in tasks)}",
        )
    return tuple(task for task in tasks if task.key in wanted or task.name in wanted)


def _load_task(entry: Any, number: int, path: Path) -> Task:
    where = f"{path}, task {number}"
    if not isinstance(entry, dict):
        raise ConfigError("a task is a mapping of keys to values", where=where)
    try:
        return Task.model_validate(entry)
    except ValidationError as error:
        raise explain(error, f"{where} ({entry.get('key', 'without key')})", Task) from error
