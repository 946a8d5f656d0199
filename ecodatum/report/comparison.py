"""Sets a leaderboard beside published numbers, and its filters beside one of them."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd

from ecodatum.content import content_root
from ecodatum.curate.recipe import Recipe, load_recipe
from ecodatum.errors import ConfigError
from ecodatum.evaluate.tasks import load_tasks
from ecodatum.pipeline.experiment import Filter
from ecodatum.report.leaderboard import Leaderboard
from ecodatum.report.published import published_scores
from ecodatum.report.significance import paired_bootstrap

#: Half of a published number's last digit.
ROUNDING: Final = 0.0005
#: What a recipe says of itself, and what does not change the subset.
_WORDS: Final = {"name", "title", "source", "description"}


def comparable(board: Leaderboard) -> bool:
    """Tell whether scores may stand beside published ones: a scale of DataComp's, and all of its tasks."""
    own = [task for task in load_tasks("datacomp") if task.main_metric is not None]
    return board.scale.comparable and list(board.tasks) == own


def against_published(board: Leaderboard) -> pd.DataFrame:
    """Return a row for each filter and group that has a published number, in the leaderboard's order.

    Columns: filter, title, group, mean, std, seeds, and published, source, checked (see
    `published_scores`); published_filter, the name that it goes by there; changed, whether the filter
    bears the name of a recipe in baselines/ whose rules it has not; difference, mean − published; noise,
    see `noise`; within, whether |difference| ≤ noise + ROUNDING, None where the noise is not known.
    Empty where the leaderboard is not comparable with published numbers.
    """
    found = published_scores(board.scale.name) if comparable(board) else published_scores("")
    numbers = {(row["filter"], row["group"]): row for row in found.to_dict("records")}
    known = set(found["filter"])
    spreads, counts = {group: board.spreads(group) for group in board.groups}, board.counts().to_dict()
    joined: list[dict[str, Any]] = []
    for item in board.filters:
        name = published_name(item, known)
        changed = _changed(item)
        for group in board.groups:
            row = numbers.get((name, group))
            if row is not None:
                mean, std = spreads[group][item.name]
                measured = {"mean": mean, "std": std, "seeds": counts[group][item.name]}
                joined.append(
                    {
                        **{"filter": item.name, "title": item.title, "group": group, **measured},
                        **{key: row[key] for key in ("published", "source", "checked")},
                        **{"published_filter": name, "changed": changed},
                        **_difference(measured, row["published"]),
                    }
                )
    return pd.DataFrame(joined, columns=_COLUMNS)


def _difference(measured: Mapping[str, Any], published: float) -> dict[str, Any]:
    width, value = noise(measured["std"], measured["seeds"]), measured["mean"] - published
    within = None if np.isnan(width) else bool(abs(value) <= width + ROUNDING)
    return {"difference": value, "noise": width, "within": within}


def not_run(board: Leaderboard, beside: pd.DataFrame) -> pd.DataFrame:
    """Return the published numbers of the leaderboard's scale that `beside`, from `against_published`, lacks.

    Columns as of `published_scores`. Raises ConfigError where nothing is published for scale and tasks.
    """
    found = published_scores(board.scale.name) if comparable(board) else published_scores("")
    if found.empty:
        raise ConfigError(
            f"nothing is published for the scale {board.scale.name} with this experiment's tasks",
            where="--published",
            todo="leave it out",
        )
    return found[~found["filter"].isin(beside["published_filter"])]


_COLUMNS: Final = [
    *("filter", "title", "group", "mean", "std", "seeds", "published", "source", "checked"),
    *("published_filter", "changed", "difference", "noise", "within"),
]


def noise(std: float, seeds: int) -> float:
    """Return how far one more run may lie from the mean of `seeds` runs with sample deviation `std`.

    The half width of the 95 % prediction interval for a further run, t(0.975; n − 1) s √(1 + 1/n): the
    published number is taken for one more draw of the same normal distribution. NaN below two runs.
    Source: Hahn and Meeker 1991, Statistical Intervals, chapter 4.
    """
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes a second to import

    return float(stdtrit(seeds - 1, 0.975) * std * np.sqrt(1 + 1 / seeds)) if seeds > 1 else np.nan


def published_name(item: Filter, known: Collection[str]) -> str | None:
    """Return the name among `known` that a filter is published under: its own, or that of a recipe in
    baselines/ which does the same; None if there is none.
    """
    if item.name in known:
        return item.name
    if item.recipe is None:
        return None
    same = _what_it_does(item.recipe)
    shipped = ((name, _shipped(name)) for name in sorted(known))
    return next((name for name, recipe in shipped if recipe and _what_it_does(recipe) == same), None)


def _changed(item: Filter) -> bool:
    """Tell whether a filter that bears its recipe's name has other rules or functions than in baselines/.

    Settings of operators are left out of it: where a model's file lies is there too. Who names a filter
    after a published one means it.
    """
    if item.recipe is None or item.recipe.name != item.name:
        return False
    shipped = _shipped(item.name)
    if shipped is None:
        return False
    mine, theirs = _what_it_does(item.recipe), _what_it_does(shipped)
    return {**mine, "operators": None} != {**theirs, "operators": None}


@cache
def _shipped(name: str) -> Recipe | None:
    path = content_root() / "baselines" / f"{name}.yaml"
    return load_recipe(str(path)) if path.is_file() else None


def _what_it_does(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude=_WORDS)


def against_baseline(board: Leaderboard, baseline: str) -> pd.DataFrame:
    """Return how far each other filter's average is above that of `baseline`: a row a filter.

    Index: filter. Columns: title, difference, low, high, p, tasks, seeds; see `paired_bootstrap`. Paired
    are the seeds that both have; NaN, and 0 seeds, where there is none. Raises ConfigError when no filter
    has that name, or when it has no finished run.
    """
    names = [item.name for item in board.filters]
    if baseline not in names:
        raise ConfigError(
            f"no filter is named {baseline!r}", where="--compare", todo=f"there are: {', '.join(names)}"
        )
    values = {name: _by_seed(board, name) for name in names}
    if values[baseline].empty:
        raise ConfigError(f"{baseline} has no finished run", where="--compare")
    rows = []
    for item in board.filters:
        if item.name == baseline:
            continue
        ours, theirs = values[item.name], values[baseline]
        seeds = [seed for seed in ours.index if seed in theirs.index]
        found = paired_bootstrap(ours.loc[seeds].to_numpy(), theirs.loc[seeds].to_numpy())
        rows.append(
            {
                "filter": item.name,
                "title": item.title,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "tasks": found.tasks if seeds else 0,
                "seeds": found.seeds,
            }
        )
    columns = ["filter", "title", "difference", "low", "high", "p", "tasks", "seeds"]
    frame = pd.DataFrame(rows, columns=columns).astype({"tasks": "Int64", "seeds": "Int64"})
    return frame.set_index("filter")


def _by_seed(board: Leaderboard, name: str) -> pd.DataFrame:
    """Return a filter's main metrics, a row a seed."""
    mine = board.scores["filter"] == name
    return board.metrics[mine].set_index(pd.Index(board.scores.loc[mine, "seed"]))
