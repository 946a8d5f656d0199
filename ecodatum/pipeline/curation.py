"""The units of curation: which scores, votes, label models and subsets an experiment's filters need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecodatum.curate.deduplication_steps import SemanticDuplicates
from ecodatum.curate.recipe import Recipe
from ecodatum.errors import ConfigError
from ecodatum.fingerprint import file_fingerprint, fingerprint
from ecodatum.operators.operator import Operator, create
from ecodatum.pipeline.curation_jobs import (
    SCORES,
    Calibrate,
    Fit,
    OperatorSpec,
    Score,
    SelectByRank,
    SelectByRules,
    SelectByScore,
    TakeSubset,
    Vote,
    keep_identity,
    votes_identity,
)
from ecodatum.pipeline.deduplication_jobs import Deduplicate, deduplicated
from ecodatum.pipeline.experiment import Filter
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pipeline.units import Job, Output, Unit
from ecodatum.pool.pool import Part, Pool

#: Raise a stage's number when its result changes for the same input.
VERSIONS = {"score": 1, "calibrate": 1, "deduplicate": 1, "vote": 1, "fit": 2, "select": 1}


@dataclass(frozen=True)
class Scored:
    """An operator of an experiment, shared by all filters that use it with the same parameters."""

    spec: OperatorSpec
    operator: Operator


@dataclass
class Curation:
    """The units of curation in the order of their stages, and what each filter gets from them."""

    pool: Pool
    work: Path
    logs: Path
    device: str
    units: list[Unit] = field(default_factory=list)
    subsets: dict[str, Output] = field(default_factory=dict)
    models: dict[str, Output] = field(default_factory=dict)
    deduplications: dict[str, Output] = field(default_factory=dict)
    _scores: dict[tuple[str, str], Output] = field(default_factory=dict)
    _made: dict[str, Output] = field(default_factory=dict)

    def plan(self, filters: Sequence[Filter]) -> None:
        """Add the units that the filters need; raises ConfigError for an operator that cannot be made."""
        operators = {f.name: _operators(f.recipe) for f in filters if f.recipe}
        self._plan_scores([scored for found in operators.values() for scored in found.values()])
        for item in filters:
            if item.recipe is None:
                self._plan_given(item)
            elif item.recipe.labelling_functions:
                self._plan_ensemble(item.name, item.recipe, operators[item.name])
            else:
                self._plan_rules(item.name, item.recipe, operators[item.name])
        order = list(VERSIONS)
        self.units.sort(key=lambda unit: order.index(unit.stage))

    def _plan_scores(self, scored: Sequence[Scored]) -> None:
        distinct = {s.operator.fingerprint: s for s in scored}
        passes: dict[tuple[str, str], dict[str, Scored]] = {}
        for mark, item in distinct.items():
            where: str = item.operator.runs_on if self.device != "cpu" else "cpu"
            passes.setdefault((item.operator.reads, where), {})[mark] = item
        for (reads, where), members in passes.items():
            for part in self.pool.parts:
                self._plan_pass(part, members, f"{reads}-{where}")

    def _plan_pass(self, part: Part, members: Mapping[str, Scored], name: str) -> None:
        outputs = []
        for mark, item in members.items():
            inputs = [part.fingerprint]
            if item.operator.reads == "image":
                inputs.append(part.shards_fingerprint)
            elif item.operator.reads == "embeddings":
                inputs.append(part.embeddings_fingerprint)
            whole = fingerprint(["score", VERSIONS["score"], mark, inputs])
            folder = self.work / "scores" / f"{item.spec.name}@{mark}" / f"{part.name}-{whole[:8]}"
            output = Output(folder, whole, key=mark)
            self._scores[mark, part.name] = output
            outputs.append(output)
        job = Score(part, {mark: item.spec for mark, item in members.items()}, self.device)
        resources = "score_gpu" if name.endswith("-gpu") else ""
        self._add(
            "score",
            f"{name}-{part.name}",
            tuple(outputs),
            job,
            size=part.rows,
            of="rows",
            resources=resources,
        )

    def _parts(
        self, operators: Mapping[str, Scored]
    ) -> tuple[tuple[PartFiles, ...], list[tuple[Output, ...]]]:
        """Return the parts with their score files, and the outputs that each part needs."""
        needs = [
            {key: self._scores[item.operator.fingerprint, part.name] for key, item in operators.items()}
            for part in self.pool.parts
        ]
        files = tuple(
            PartFiles(part, {key: output.path / SCORES for key, output in need.items()})
            for part, need in zip(self.pool.parts, needs, strict=True)
        )
        return files, [tuple(need.values()) for need in needs]

    def _plan_calibration(
        self,
        name: str,
        recipe: Recipe,
        operators: Mapping[str, Scored],
        parts: tuple[PartFiles, ...],
        needs: list[tuple[Output, ...]],
    ) -> Output | None:
        if not recipe.tops():
            return None
        inputs = tuple(output for need in needs for output in need)
        above = recipe.rules[: max(share.after for share in recipe.tops())]
        keys = [
            _keys(operators),
            sorted(recipe.tops()),
            [rule.model_dump(mode="json") for rule in above],
        ]
        whole = self._fingerprint("calibrate", [keys, [o.fingerprint for o in inputs]])
        output = Output(self._folder(name) / f"thresholds@{whole}.json", whole)
        return self._share("calibrate", name, output, Calibrate(recipe, parts), inputs)

    def _plan_deduplication(
        self, name: str, recipe: Recipe, operators: Mapping[str, Scored], parts: tuple[PartFiles, ...]
    ) -> tuple[tuple[PartFiles, ...], tuple[Output, ...]]:
        """Return the parts as deduplication leaves them, and its output, which the same steps share.

        It depends on the operators that the steps read, and on no other.
        """
        if not recipe.deduplicate:
            return parts, ()
        keys = {score.partition(".")[0] for score in recipe.deduplication_scores()}
        read = {key: operators[key] for key in sorted(keys)}
        scored, needs = self._parts(read)
        inputs = tuple(output for need in needs for output in need)
        job = Deduplicate(recipe.deduplicate, scored)
        marks = [self.pool.fingerprint, *(o.fingerprint for o in inputs)]
        if any(isinstance(step, SemanticDuplicates) for step in recipe.deduplicate):
            marks += [part.embeddings_fingerprint for part in self.pool.parts]
        whole = self._fingerprint("deduplicate", [_keys(read), job.parameters(), marks])
        output = Output(self.work / "deduplicated" / whole, whole)
        size = self.pool.rows * len(recipe.deduplicate)
        self.deduplications[name] = self._share("deduplicate", name, output, job, inputs, size, "rows")
        return deduplicated(parts, output.path), (output,)

    def _plan_rules(self, name: str, recipe: Recipe, operators: Mapping[str, Scored]) -> None:
        parts, needs = self._parts(operators)
        thresholds = self._plan_calibration(name, recipe, operators, parts, needs)
        parts, unique = self._plan_deduplication(name, recipe, operators, parts)
        extra = (thresholds,) if thresholds else ()
        inputs = (*(output for need in needs for output in need), *extra, *unique)
        job = SelectByRules(recipe, parts, thresholds.path if thresholds else None)
        identity = [_keys(operators), votes_identity(recipe)]
        depends = [self.pool.fingerprint, identity, [o.fingerprint for o in inputs]]
        self._plan_select(name, job, inputs, depends)

    def _plan_ensemble(self, name: str, recipe: Recipe, operators: Mapping[str, Scored]) -> None:
        parts, needs = self._parts(operators)
        thresholds = self._plan_calibration(name, recipe, operators, parts, needs)
        parts, unique = self._plan_deduplication(name, recipe, operators, parts)
        extra = ((thresholds,) if thresholds else ()) + unique
        if recipe.combine == "mean_score":
            inputs = (*(output for need in needs for output in need), *extra)
            by_score = SelectByScore(recipe, parts, thresholds.path if thresholds else None)
            how = [_keys(operators), by_score.parameters(), [o.fingerprint for o in inputs]]
            self._plan_select(name, by_score, inputs, [self.pool.fingerprint, how])
            return
        votes = []
        for part, need in zip(parts, needs, strict=True):
            inputs = (*need, *extra)
            identity = [_keys(operators), votes_identity(recipe)]
            whole = self._fingerprint("vote", [identity, [o.fingerprint for o in inputs]])
            output = Output(self._folder(name) / "votes" / f"{part.part.name}@{whole}", whole)
            job = Vote(recipe, part, thresholds.path if thresholds else None)
            part_name, rows = f"{name}-{part.part.name}", part.part.rows
            votes.append(self._share("vote", part_name, output, job, inputs, rows, "rows"))
        paths = tuple(v.path for v in votes)
        fit = Fit(recipe, paths)
        whole = self._fingerprint("fit", [fit.parameters(), [v.fingerprint for v in votes]])
        model = Output(self._folder(name) / f"label_model@{whole}", whole)
        model = self._share("fit", name, model, fit, tuple(votes))
        self.models[name] = model
        keep = keep_identity(recipe)
        inputs = (*(output for need in needs for output in need), *votes, model)
        depends = [self.pool.fingerprint, _keys(operators), keep, [o.fingerprint for o in inputs]]
        self._plan_select(name, SelectByRank(recipe, parts, paths, model.path), inputs, depends)

    def _plan_given(self, item: Filter) -> None:
        if item.subset is None:
            raise ConfigError("a filter needs a recipe or a subset", where=item.name)
        job = TakeSubset(item.subset, tuple(PartFiles(part, {}) for part in self.pool.parts))
        self._plan_select(item.name, job, (), [file_fingerprint(item.subset), self.pool.fingerprint])

    def _plan_select(self, name: str, job: Job, inputs: tuple[Output, ...], depends: Any) -> None:
        whole = self._fingerprint("select", depends)
        output = Output(self._folder(name) / f"subset@{whole}.npy", whole)
        self._add("select", name, (output,), job, inputs, self.pool.rows, "rows")
        self.subsets[name] = output

    def _share(
        self,
        stage: str,
        name: str,
        output: Output,
        job: Job,
        needs: tuple[Output, ...],
        size: int = 1,
        of: str = "",
    ) -> Output:
        """Add a unit, unless one for another filter makes the same; return the output of the one."""
        if output.fingerprint not in self._made:
            self._add(stage, name, (output,), job, needs, size, of)
            self._made[output.fingerprint] = output
        return self._made[output.fingerprint]

    def _add(
        self,
        stage: str,
        name: str,
        outputs: tuple[Output, ...],
        job: Job,
        needs: tuple[Output, ...] = (),
        size: int = 1,
        of: str = "",
        resources: str = "",
    ) -> None:
        log = self.logs / stage / f"{name}.log"
        self.units.append(Unit(stage, name, outputs, job, needs, size, of, log=log, resources=resources))

    def _folder(self, name: str) -> Path:
        return self.work / "filters" / name

    @staticmethod
    def _fingerprint(stage: str, depends: Any) -> str:
        return fingerprint([stage, VERSIONS[stage], depends])


def _keys(operators: Mapping[str, Scored]) -> list[tuple[str, str]]:
    """Return which operator stands behind each key of a recipe: its rules name scores by these keys."""
    return sorted((key, item.operator.fingerprint) for key, item in operators.items())


def _operators(recipe: Recipe) -> dict[str, Scored]:
    """Make a recipe's operators, and check that they give the columns that it reads."""
    found = {}
    for key, given in recipe.operators.items():
        parameters = {name: value for name, value in given.items() if name != "operator"}
        spec = OperatorSpec(str(given.get("operator", key)), parameters)
        found[key] = Scored(spec, create(spec.name, parameters, where=recipe.name))
    for score in (*recipe.scores(), *recipe.deduplication_scores()):
        key, _, column = score.partition(".")
        known = [c.name for c in found[key].operator.columns]
        if column not in known:
            raise ConfigError(
                f"the operator {key} gives no score {column!r}",
                where=recipe.name,
                todo=f"it gives: {', '.join(known)}",
            )
    return found
