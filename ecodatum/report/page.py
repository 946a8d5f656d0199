"""The report of an experiment: one HTML page that needs nothing else, and says what is missing yet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from ecodatum import __version__
from ecodatum.curate.recipe import FILE_ORDER, Recipe
from ecodatum.curate.voting import REJECT, SELECT, unpack
from ecodatum.errors import ConfigError, RunError
from ecodatum.files import write_text
from ecodatum.pipeline.curation_jobs import read_diagnostics, read_lf_summary
from ecodatum.pipeline.graph import Graph
from ecodatum.pipeline.training_jobs import TRAINING
from ecodatum.pool.pool import Pool
from ecodatum.report import remarks
from ecodatum.report.curated import Curated, curated, read_patterns
from ecodatum.report.differences import differences
from ecodatum.report.distributions import Distribution, distribution
from ecodatum.report.galleries import Gallery, galleries
from ecodatum.report.leaderboard import Leaderboard, leaderboard
from ecodatum.report.plots import (
    Curve,
    SizePoint,
    plot_curves,
    plot_distribution,
    plot_probabilities,
    plot_sizes,
    series_style,
)
from ecodatum.report.provenance import commit, experiment_text, fingerprints, made, recipe_text
from ecodatum.report.tables import best_cells
from ecodatum.report.zones import number, zones

#: The template, and the style sheet that it takes in.
_TEMPLATE: Final = "report.html"
_BINS: Final = 50

#: What the weights of labelling functions are, by what combines their votes.
_WEIGHTS: Final = {
    "label_model": "the weight that the label model has learned",
    "majority_vote": "the weight, which is equal in a majority vote",
    "random_weights": "the weight, drawn at random",
    "mean_score": "",
}


def write_report(graph: Graph, path: Path, *, baseline: str | None = None) -> None:
    """Write the report of an experiment, as far as that is; the same results give the same bytes.

    baseline: the filter to which others are compared task by task; by default the first. Raises
    ConfigError for a baseline that is no filter of the experiment, PoolError for damaged scores.
    """
    write_text(path, render(graph, baseline=baseline))


def render(graph: Graph, *, baseline: str | None = None) -> str:
    """Return the report as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    names = list(dict.fromkeys(run.filter.name for run in graph.runs))
    if baseline is not None and baseline not in names:
        raise ConfigError(
            f"no filter {baseline!r} in this experiment",
            where="--baseline",
            todo=f"there are: {', '.join(names)}",
        )
    environment = Environment(
        loader=PackageLoader("ecodatum.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=_share, duration=duration, signed=_signed, score=_score)
    return environment.get_template(_TEMPLATE).render(_content(graph, baseline or names[0]))


def _content(graph: Graph, baseline: str) -> dict[str, Any]:
    filters = curated(graph)
    shown = galleries(graph.pool, filters)
    facts, board = made(graph), _finished(graph)
    return {
        "graph": graph,
        "version": __version__,
        "title": graph.experiment.title or graph.experiment.name,
        "runs_done": sum(run.evaluation.done() for run in graph.runs),
        "missing": [cost for cost in facts.costs if cost.missing],
        "board": _board(board) if board else None,
        "sizes": _size_plot(board, filters) if board else None,
        "differences": differences(board, baseline) if board else None,
        "curves": _curves(graph),
        "filters": [_filter(item, graph.pool, shown) for item in filters],
        "pairs": [gallery for gallery in shown if gallery.kept_by and gallery.dropped_by],
        "made": facts,
        "commit": commit(),
        "experiment_text": experiment_text(graph),
        "fingerprints": fingerprints(graph.runs),
    }


def _finished(graph: Graph) -> Leaderboard | None:
    """Return the leaderboard; None before any run is finished."""
    try:
        return leaderboard(graph)
    except RunError:
        return None


@dataclass(frozen=True)
class BoardRow:
    """A filter in the leaderboard: of each group the mean over seeds, its spread (NaN for one), if best."""

    title: str
    size: int
    seeds: int
    cells: tuple[tuple[float, float, bool], ...]


def _board(board: Leaderboard) -> dict[str, Any]:
    table = board.rows()
    best = set(best_cells(board, table[[(group, "mean") for group in board.groups]]))
    rows = [
        BoardRow(
            str(row[("title", "")]),
            int(row[("size", "")]),
            int(row[("seeds", "")]),
            tuple(
                (row[(group, "mean")], row[(group, "std")], (place, column) in best)
                for column, group in enumerate(board.groups)
            ),
        )
        for place, (_, row) in enumerate(table.iterrows())
    ]
    note = " ".join(remarks.best(board))
    return {"groups": board.groups, "rows": rows, "most": max(row.seeds for row in rows), "note": note}


def _size_plot(board: Leaderboard, filters: Sequence[Curated]) -> Markup:
    featured = {item.name for item in filters if item.ensemble}
    points = [
        SizePoint(
            str(row[("title", "")]),
            int(row[("size", "")]),
            float(row[("Average", "mean")]),
            float(row[("Average", "std")]),
            name in featured,
        )
        for name, row in board.rows().iterrows()
    ]
    told = "; ".join(f"{point.title}: {point.score:.3f} at {point.size:,} samples" for point in points)
    return plot_sizes(points, f"Average score against dataset size. {told}.")


def _curves(graph: Graph) -> dict[str, Any] | None:
    """Return the plot of the losses of finished trainings, its legend, and the last losses."""
    from ecodatum.train.progress import training_curve

    names = list(dict.fromkeys(run.filter.name for run in graph.runs))
    titles = {run.filter.name: run.filter.title for run in graph.runs}
    curves, last = [], dict[str, list[tuple[int, float]]]()
    for run in graph.runs:
        if not run.training.done():
            continue
        try:
            found = training_curve(run.training.path / TRAINING)
        except RunError:  # a trainer that leaves another log
            continue
        if len(found):
            series = names.index(run.filter.name)
            curves.append(Curve(series, found["samples_seen"].to_numpy(), found["loss"].to_numpy()))
            last.setdefault(run.filter.name, []).append((run.seed, float(found["loss"].iloc[-1])))
    if not curves:
        return None
    legend = [(titles[name], *series_style(names.index(name)), last[name]) for name in names if name in last]
    label = (
        f"Training loss against samples seen, of {len(curves)} trainings; a table below has the last ones."
    )
    return {"plot": plot_curves(curves, label), "legend": legend}


def _filter(item: Curated, pool: Pool, shown: Sequence[Gallery]) -> dict[str, Any]:
    """Return what the page tells of one filter."""
    found = zones(item.recipe) if item.recipe else ()
    scores = dict.fromkeys(zone.score for zone in found)
    spread = [distribution(item.parts, score, found) for score in scores]
    return {
        "item": item,
        "rows": pool.rows,
        "kept": next((g for g in shown if g.name == f"{item.name}-kept"), None),
        "dropped": next((g for g in shown if g.name == f"{item.name}-dropped"), None),
        "model": _label_model(item),
        "scores": [_score_panel(each, item) for each in spread if each],
        "unscored": [score for score, each in zip(scores, spread, strict=True) if each is None],
        "recipe_text": recipe_text(item.recipe) if item.recipe else "",
    }


def _score_panel(found: Distribution, item: Curated) -> dict[str, Any]:
    told = [f"{z.effect} {z.words}: {_share(s)}" for z, s in zip(found.zones, found.shares, strict=True)]
    label = f"{item.title}: histogram of {found.score} over {found.rows:,} samples; {'; '.join(told)}."
    return {
        "found": found,
        "zones": list(zip(found.zones, found.shares, strict=True)),
        "plot": None if found.edges is None else plot_distribution(found, label),
        "most": max((count for _, count in found.categories), default=1),
    }


def _label_model(item: Curated) -> dict[str, Any] | None:
    """Return the table of the labelling functions, their agreement, doubts, and the plot of P(SELECT)."""
    if item.model is None or item.recipe is None:
        return None
    found, cut = read_diagnostics(item.model), (item.counts or {}).get("cut")
    return {
        "functions": _functions(item.model),
        "names": found["labelling_functions"],
        "agreement": found["agreement"],
        "doubts": [doubt["message"] for doubt in found["warnings"]],
        "plot": _probability_plot(item),
        "distribution": found["distribution"],
        "cut": cut,
        "candidates": int(read_patterns(item.model).counts.sum()),
        "ties": _ties(item.recipe, cut),
        "weights": _WEIGHTS[item.recipe.combine],
    }


def _ties(recipe: Recipe, cut: Mapping[str, Any] | None) -> str:
    """Return which samples of equal probability stay, in words."""
    score = recipe.keep.tie_score if recipe.keep else None
    if score is None:
        by_file = recipe.keep is not None and recipe.keep.tie_break == FILE_ORDER
        return f"the first by {'the order of the files' if by_file else 'uid'} stay"
    least = (cut or {}).get("tie_score")
    return f"those with the highest {score} stay" + ("" if least is None else f", from {number(least)}")


def _functions(model: Path) -> list[dict[str, Any]]:
    """Return a row a labelling function: the shares of its votes beside its summary."""
    patterns, summary = read_patterns(model), read_lf_summary(model)
    votes = unpack(patterns.patterns, len(summary))
    weights = patterns.counts / max(1, patterns.counts.sum())
    shares = summary.assign(selects=weights @ (votes == SELECT), rejects=weights @ (votes == REJECT))
    return shares.reset_index(names="name").to_dict("records")  # type: ignore[return-value]  # keys are names


def _probability_plot(item: Curated) -> Markup | None:
    if item.model is None:
        return None
    patterns, cut = read_patterns(item.model), ((item.counts or {}).get("cut") or {}).get("probability")
    edges = np.linspace(0, 1, _BINS + 1)
    kept = np.zeros(len(patterns.counts), np.int64)
    if cut is not None:
        at = patterns.probabilities == cut
        kept[patterns.probabilities > cut] = patterns.counts[patterns.probabilities > cut]
        # At the cut itself some stay; which pattern they have does not matter in one and the same bar.
        room = item.kept - int(kept.sum())
        before = np.cumsum(np.where(at, patterns.counts, 0)) - patterns.counts
        kept[at] = np.clip(room - before[at], 0, patterns.counts[at])
    bars = [
        np.histogram(patterns.probabilities, edges, weights=values)[0].round().astype(np.int64)
        for values in (kept, patterns.counts - kept)
    ]
    where = "" if cut is None else f", cut at {cut:.4f}: {item.kept:,} are kept"
    label = f"{item.title}: {int(patterns.counts.sum()):,} candidates by P(SELECT){where}."
    return plot_probabilities(edges, bars[0], bars[1], cut, label)


def _share(value: float) -> str:
    """Return a share as per cent, with a decimal unless it is nothing or all."""
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if value < 0.0005:
        return "< 0.1 %"
    return f"{100 * value:.1f} %" if value < 0.9995 else "> 99.9 %"


def _score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def duration(seconds: float) -> str:
    """Return seconds as people read them: 0.4 s, 12 s, 3 min 20 s, 5 h 7 min."""
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
