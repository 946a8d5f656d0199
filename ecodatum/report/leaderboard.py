"""The leaderboard of an experiment: a row a filter, the groups' scores and their average over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.files import replacing, write_text
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.training_jobs import read_results


@dataclass(frozen=True)
class Leaderboard:
    """Scores by run: a frame with the columns filter, title, seed, size, and one for each group."""

    scores: pd.DataFrame
    groups: tuple[str, ...]

    def rows(self) -> pd.DataFrame:
        """Return a row per filter, in the experiment's order, with (group, mean|std) columns and `seeds`.

        std is the sample standard deviation over seeds, NaN for one seed.
        """
        grouped = self.scores.groupby("filter", sort=False)
        table = grouped[list(self.groups)].agg(["mean", "std"])
        table.insert(0, ("size", ""), grouped["size"].first())
        table.insert(0, ("title", ""), grouped["title"].first())
        table[("seeds", "")] = grouped["seed"].count()
        return table

    def shown(self) -> pd.DataFrame:
        """Return the rows as people read them: `0.182 ± 0.012`."""
        rows = self.rows()
        shown = pd.DataFrame({"Filter": rows[("title", "")], "Dataset size": rows[("size", "")]})
        shown["Dataset size"] = shown["Dataset size"].map("{:,}".format)
        for group in self.groups:
            pairs = zip(rows[(group, "mean")], rows[(group, "std")], strict=True)
            shown[group] = [f"{m:.3f}" if pd.isna(s) else f"{m:.3f} ± {s:.3f}" for m, s in pairs]
        return shown.reset_index(drop=True)


def leaderboard(graph: Graph) -> Leaderboard:
    """Collect the finished runs of an experiment.

    Raises RunError when none is finished.
    """
    rows = [_row(run, graph) for run in graph.runs if run.evaluation.done() and run.subset.done()]
    if not rows:
        raise RunError(
            "no run of this experiment is finished",
            where=graph.experiment.name,
            todo="run it: ecodatum run EXPERIMENT",
        )
    frame = pd.DataFrame(rows)
    groups = tuple(name for name in frame.columns if name not in {"filter", "title", "seed", "size"})
    return Leaderboard(frame, groups)


def _row(run: Run, graph: Graph) -> dict[str, object]:
    results = read_results(run.evaluation.path)
    return {
        "filter": run.filter.name,
        "title": run.filter.title,
        "seed": run.seed,
        "size": run.subset.read()["counts"]["kept"],
        **aggregate(results, graph.tasks),
    }


def write_leaderboard(board: Leaderboard, folder: Path, *, title: str) -> tuple[Path, Path]:
    """Write `leaderboard.md` and `leaderboard.csv` (a row per filter, full precision); return both paths."""
    markdown, csv = folder / "leaderboard.md", folder / "leaderboard.csv"
    write_text(markdown, f"# {title}\n\n{_markdown(board.shown())}\n{_caption(board)}\n")
    flat = board.rows()
    flat.columns = pd.Index(["_".join(filter(None, column)) for column in flat.columns])
    with replacing(csv) as temporary:
        flat.to_csv(temporary)
    return markdown, csv


def _markdown(table: pd.DataFrame) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = ["---"] + ["---:"] * (len(table.columns) - 1)
    body = [line([str(cell) for cell in row]) for row in table.itertuples(index=False)]
    return "\n".join([line(list(table.columns)), line(rule), *body])


def _caption(board: Leaderboard) -> str:
    counts = board.scores.groupby("filter")["seed"].count()
    least, most = int(counts.min()), int(counts.max())
    seeds = f"{most} seeds" if least == most else f"the {least} to {most} seeds that are finished"
    spread = f"mean ± standard deviation over {seeds}" if most > 1 else "one seed: no spread"
    return f"\n{spread}; dataset size: samples that the filter keeps."
