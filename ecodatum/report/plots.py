"""Plots for the report: SVG that takes its colours from the page's style sheet, in light and in dark."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from ecodatum.fingerprint import fingerprint
from ecodatum.report.distributions import Distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: How many colours and line styles `series` has: then they come again with another dash.
COLOURS: Final = 7
_DASHES: Final = ("-", (0, (4, 2)), (0, (1, 1.5)))

#: What a letter of a name takes, at most nearly, and a line.
_LETTER: Final = 7.0
_LINE: Final = 15.0

#: Left, bottom, right and top, in pixels.
Box = tuple[float, float, float, float]

# Stand-ins for the colours of the style sheet: matplotlib writes hex digits, the page CSS variables.
_STAND_INS: Final = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "select": "#040404",
    "reject": "#050505",
    "bar": "#060606",
    "paper": "#070707",
    **{f"series{i}": f"#0800{i:02d}" for i in range(COLOURS)},
}
_EFFECTS: Final = {"keep": "select", "select": "select", "reject": "reject"}

_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "ecodatum",
    "svg.fonttype": "none",
    "font.size": 12.5,
    "text.parse_math": False,  # a dollar in a title is a dollar
    "text.color": _STAND_INS["ink"],
    "axes.edgecolor": _STAND_INS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _STAND_INS["muted"],
    "ytick.color": _STAND_INS["muted"],
    "xtick.labelcolor": _STAND_INS["muted"],
    "ytick.labelcolor": _STAND_INS["muted"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class SizePoint:
    """A filter in the plot of score against dataset size; spread is NaN for one seed."""

    title: str
    size: int
    score: float
    spread: float
    featured: bool


@dataclass(frozen=True)
class Curve:
    """The loss of one training over the samples seen, each (n,); `series` is its filter's number."""

    series: int
    samples: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]


def series_style(number: int) -> tuple[str, str]:
    """Return the CSS colour and the SVG dash array of a series."""
    dash = ("none", "6 3", "1.5 2.5")[number // COLOURS % len(_DASHES)]
    return f"var(--series{number % COLOURS})", dash


def plot_sizes(points: Sequence[SizePoint], label: str) -> Markup:
    """Draw score against dataset size, each point with its name."""
    with _drawing(480, 310) as (figure, axes):
        figure.subplots_adjust(left=0.1, right=0.985, top=0.97, bottom=0.15)
        sizes = np.array([point.size for point in points], float)
        if sizes.max() > 3 * sizes.min():
            axes.set_xscale("log")
        for point in points:
            colour = _STAND_INS["series0" if point.featured else "muted"]
            spread = None if np.isnan(point.spread) else point.spread
            axes.errorbar(
                point.size, point.score, spread, fmt="o", color=colour, markersize=7, elinewidth=1.2
            )
        axes.margins(x=0.09, y=0.12)
        _size_ticks(axes, sizes)
        axes.grid(axis="y", color=_STAND_INS["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("samples that the filter keeps", color=_STAND_INS["muted"])
        _name_points(axes, points)
        return _svg(figure, label)


def _size_ticks(axes: "Axes", sizes: npt.NDArray[np.float64]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    log = axes.get_xscale() == "log"
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)) if log else MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)


def short_count(value: float) -> str:
    """Return a count as an axis has it: 2 k, 1.5 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _name_points(axes: "Axes", points: Sequence[SizePoint]) -> None:
    """Write each point's name beside it, where it covers the least of other points, their bars and names."""
    axes.autoscale_view()
    whole, at = axes.get_window_extent(), axes.transData.transform
    marks = [(*(at((p.size, p.score - _bar(p))) - 7), *(at((p.size, p.score + _bar(p))) + 7)) for p in points]
    for point in sorted(points, key=lambda point: (-point.score, point.size)):
        x, y = at((point.size, point.score))
        width = _LETTER * len(point.title)
        free = [
            (right, rise, (left, y + rise - _LINE / 2, left + width, y + rise + _LINE / 2))
            for rise in (0, 14, -14, 28, -28, 42, -42)
            for right, left in ((True, x + 11), (False, x - 11 - width))
        ]
        covered = [_covered(box, marks, whole.x0, whole.x1) for _, _, box in free]
        right, rise, box = free[int(np.argmin(covered))]
        marks.append(box)
        axes.annotate(
            point.title,
            (x, y),
            (x + (11 if right else -11), y + rise),
            xycoords="figure pixels",
            textcoords="figure pixels",
            ha="left" if right else "right",
            va="center_baseline",
            color=_STAND_INS["series0" if point.featured else "ink"],
            annotation_clip=False,
        )


def _bar(point: SizePoint) -> float:
    return 0.0 if np.isnan(point.spread) else point.spread


def _covered(box: Box, marks: Sequence[Box], left: float, right: float) -> float:
    """Return how much of the marks a box covers, in pixels, and how far it leaves the plot on either side."""
    widths = [min(box[2], mark[2]) - max(box[0], mark[0]) for mark in marks]
    heights = [min(box[3], mark[3]) - max(box[1], mark[1]) for mark in marks]
    outside = max(0.0, left - box[0]) + max(0.0, box[2] - right)
    areas = [w * h for w, h in zip(widths, heights, strict=True) if w > 0 and h > 0]
    return sum(areas) + 100 * outside


def plot_distribution(found: Distribution, label: str) -> Markup:
    """Draw the histogram of a score with its zones tinted and their thresholds as lines."""
    with _drawing(300, 110) as (figure, axes):
        figure.subplots_adjust(left=0.03, right=0.97, top=0.97, bottom=0.22)
        if found.edges is None or found.counts is None:
            raise ValueError(f"{found.score} has no histogram")
        axes.stairs(found.counts, found.edges, fill=True, color=_STAND_INS["bar"], linewidth=0)
        axes.set_xlim(found.edges[0], found.edges[-1])
        low, high = axes.get_xlim()
        for zone in found.zones:
            colour = _STAND_INS[_EFFECTS[zone.effect]]
            if isinstance(zone.value, float):
                ends = (zone.value, high) if zone.comparison in ("at_least", "above") else (low, zone.value)
                axes.axvspan(*ends, color=colour, alpha=0.14, linewidth=0)
                axes.axvline(zone.value, color=colour, linewidth=1.6)
        _bare(axes)
        return _svg(figure, label)


def plot_probabilities(
    edges: npt.NDArray[np.float64],
    kept: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    cut: float | None,
    label: str,
) -> Markup:
    """Draw candidates by P(SELECT): those that are kept above those that are not, and the cut."""
    with _drawing(480, 180) as (figure, axes):
        figure.subplots_adjust(left=0.1, right=0.985, top=0.96, bottom=0.26)
        axes.stairs(left, edges, fill=True, color=_STAND_INS["bar"], linewidth=0)
        axes.stairs(left + kept, edges, baseline=left, fill=True, color=_STAND_INS["select"], linewidth=0)
        if cut is not None:
            axes.axvline(cut, color=_STAND_INS["ink"], linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(_few())
        axes.yaxis.set_major_formatter(lambda value, _: short_count(value))
        axes.grid(axis="y", color=_STAND_INS["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("P(SELECT)", color=_STAND_INS["muted"])
        return _svg(figure, label)


def plot_curves(curves: Sequence[Curve], label: str) -> Markup:
    """Draw the loss of trainings, a colour a filter."""
    with _drawing(480, 280) as (figure, axes):
        figure.subplots_adjust(left=0.1, right=0.985, top=0.97, bottom=0.165)
        for curve in curves:
            axes.plot(
                curve.samples,
                curve.loss,
                color=_STAND_INS[f"series{curve.series % COLOURS}"],
                linestyle=_DASHES[curve.series // COLOURS % len(_DASHES)],
                linewidth=1.3,
            )
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(_few(6))
        axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
        axes.grid(axis="y", color=_STAND_INS["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("samples seen", color=_STAND_INS["muted"])
        return _svg(figure, label)


def _few(most: int = 4) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _bare(axes: "Axes") -> None:
    """Leave the horizontal axis alone: in a small histogram only the shape counts."""
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(_few(5))


@contextlib.contextmanager
def _drawing(width: int, height: int) -> "Iterator[tuple[Figure, Axes]]":
    """Yield a figure of so many CSS pixels, with the report's style while it is drawn and written."""
    import matplotlib

    with matplotlib.rc_context():
        from matplotlib.figure import Figure

        matplotlib.rcdefaults()  # whatever the reader's own matplotlibrc says
        matplotlib.rcParams.update(_STYLE)

        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        yield figure, figure.subplots()


def _svg(figure: "Figure", label: str) -> Markup:
    """Return a figure as an SVG element with a name, for a page that has others."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
    )
    drawn = buffer.getvalue()
    width, height = figure.get_size_inches() * 72
    drawn = drawn[drawn.index(">", drawn.index("<svg")) + 1 :]
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", drawn, flags=re.DOTALL)
    for name, colour in _STAND_INS.items():
        drawn = drawn.replace(colour, f"var(--{name})")
    drawn = re.sub(r" ?font-family: [^;\"]+;?", "", drawn)  # the page's own
    drawn = re.sub(r"(\.\d\d)\d+(?=[^<>]*>)", r"\1", drawn).replace("xlink:href", "href")  # not in texts
    drawn = _own_ids(drawn, fingerprint([label, drawn])[:8])
    drawn = re.sub(r">\s+<", "><", drawn).replace("\n", "").strip()
    head = (
        f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:.0f} {height:.0f}">'
    )
    return Markup(head + drawn)


def _own_ids(drawn: str, prefix: str) -> str:
    """Keep only the ids that something refers to, and make them differ from those of other plots."""
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", drawn))
    drawn = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", drawn)
    return re.sub(r"(href=\"|url\()#", rf"\g<1>#{prefix}", drawn)
