"""A plot of a threshold search: what each trial was worth, and the terms of the best so far."""

from pathlib import Path

import pandas as pd

from ecodatum.files import replacing

_TERMS = {"f1": "F1 on the labels", "coverage": "coverage", "overlap": "overlap", "conflict": "conflict"}


def plot_search(history: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw a study's history (`search.best`) as SVG; the same history gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "ecodatum", "svg.fonttype": "none"}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        trials, objective = history["trial"], history["objective"]
        upper.plot(trials, objective, ".", color="0.6", markersize=4, label="trial")
        upper.plot(trials, objective.cummax(), color="C0", drawstyle="steps-post", label="best so far")
        upper.set_ylabel("composite metric M")
        upper.legend(loc="lower right")
        best = history[objective == objective.cummax()].reindex(history.index).ffill()
        for number, (name, label) in enumerate(_TERMS.items()):
            lower.plot(trials, best[name], color=f"C{number}", drawstyle="steps-post", label=label)
        lower.set_ylabel("of the best so far")
        lower.set_xlabel("trial")
        lower.set_ylim(0, 1)
        lower.legend(loc="lower right", ncols=2)
        figure.suptitle(title)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
