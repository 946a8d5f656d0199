"""Search: Optuna looks for the choice of values that is worth most; workers share a study on disk."""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from ecodatum.curate.knobs import Choice
from ecodatum.curate.tuning import Bench, Labelled, Measure
from ecodatum.errors import ConfigError, EcoDatumError

if TYPE_CHECKING:
    import optuna

Sampler = Literal["tpe", "enumerate"]

#: The most combinations that are enumerated.
ENUMERABLE: Final = 20_000

_STUDY, _JOURNAL = "tune", "study.log"


@dataclass(frozen=True)
class Plan:
    """How to search. trials: how many for `tpe`; `enumerate` tries every combination once (Algorithm 1)."""

    sampler: Sampler
    trials: int
    seed: int


def check_plan(plan: Plan, bench: Bench) -> int:
    """Return how many trials a plan has; raises ConfigError for too many combinations to enumerate."""
    if plan.sampler == "tpe":
        return plan.trials
    combinations = math.prod(len(knob.values) for knob in bench.knobs)
    if combinations > ENUMERABLE:
        raise ConfigError(
            f"{combinations:,} combinations are too many to enumerate (at most {ENUMERABLE:,})",
            todo="tune fewer functions (--functions), give fewer shares (--top, --tails), or --sampler tpe",
        )
    return combinations


def search(
    bench: Bench,
    labelled: Labelled,
    folder: Path,
    plan: Plan,
    *,
    told: Callable[[int], None],
    worker: int = 0,
) -> None:
    """Add trials to the folder's study until it has as many as planned.

    The first trial is the recipe as it is. Any number of workers, on any machines that see the folder, may
    do this at once; one that dies leaves a study that the others, or a later call, go on with. The same
    seed gives the same trials for one worker that is not interrupted. told: called with the number of
    trials that are done, after each.
    """
    import optuna

    study = _open(folder, plan, bench, worker)
    if plan.sampler == "tpe" and worker == 0 and not study.get_trials(deepcopy=False):
        study.enqueue_trial(_parameters(bench, bench.start))

    def objective(trial: "optuna.Trial") -> float:
        drawn = tuple(trial.suggest_int(k.name, 0, len(k.values) - 1) for k in bench.knobs)
        choice = bench.canonical(drawn)
        if plan.sampler == "enumerate" and choice != drawn:
            raise optuna.TrialPruned
        try:
            measure = bench.measure(choice, labelled)
        except EcoDatumError as error:
            raise optuna.TrialPruned from error  # values whose fit diverges are no choice
        trial.set_user_attr("measure", asdict(measure))
        return measure.objective

    def after(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        done = _count_done(study)
        told(done)
        if plan.sampler == "tpe" and done >= plan.trials:
            study.stop()

    if isinstance(study.sampler, optuna.samplers.GridSampler):
        complete = study.sampler.is_exhausted(study)
    else:
        complete = _count_done(study) >= plan.trials
    if not complete:
        study.optimize(objective, callbacks=[after])


def _open(folder: Path, plan: Plan, bench: Bench, worker: int) -> "optuna.Study":
    """Open the folder's study, and begin it if there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=_storage(folder), study_name=_STUDY, direction="maximize", load_if_exists=True
    )
    seed = plan.seed + 1000 * worker + len(study.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if plan.sampler == "tpe":
            study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=worker > 0)
        else:
            grid = {knob.name: list(range(len(knob.values))) for knob in bench.knobs}
            study.sampler = optuna.samplers.GridSampler(grid, seed=seed)
    return study


def _storage(folder: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage

    from ecodatum.curate.journal import Journal

    return JournalStorage(Journal(folder / _JOURNAL))


def _parameters(bench: Bench, choice: Choice) -> dict[str, int]:
    return {knob.name: position for knob, position in zip(bench.knobs, choice, strict=True)}


def count_done(folder: Path) -> int:
    """Return how many trials the folder's study has that are done; 0 where there is none yet."""
    import optuna

    if not (folder / _JOURNAL).exists():
        return 0
    try:
        return _count_done(optuna.load_study(study_name=_STUDY, storage=_storage(folder)))
    except KeyError:
        return 0


def _count_done(study: "optuna.Study") -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


@dataclass(frozen=True)
class Found:
    """The best choice of a study, and its history: a row a trial that was measured."""

    choice: Choice
    measure: Measure
    history: pd.DataFrame


def best(bench: Bench, folder: Path, plan: Plan) -> Found:
    """Return what the folder's study found; of equal choices the first.

    The history has `trial`, `seconds`, the fields of Measure, and a column a knob with its value.
    """
    study = _open(folder, plan, bench, 0)
    trials = [t for t in study.get_trials(deepcopy=False) if t.value is not None]
    choices = [bench.canonical(tuple(t.params[k.name] for k in bench.knobs)) for t in trials]
    rows = [_row(trial, choice, bench) for trial, choice in zip(trials, choices, strict=True)]
    first = max(range(len(trials)), key=lambda i: (trials[i].value, -trials[i].number))
    measure = Measure(**trials[first].user_attrs["measure"])
    return Found(choices[first], measure, pd.DataFrame(rows))


def _row(trial: "optuna.trial.FrozenTrial", choice: Choice, bench: Bench) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else math.nan
    values = {k.name: k.numbers[position] for k, position in zip(bench.knobs, choice, strict=True)}
    return {"trial": trial.number, "seconds": seconds, **trial.user_attrs["measure"], **values}
