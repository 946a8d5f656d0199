"""Plots: well-formed SVG with names, the page's colours, and the same bytes for the same numbers."""

import re
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from markupsafe import Markup

from ecodatum.report.distributions import Distribution
from ecodatum.report.plots import (
    COLOURS,
    Curve,
    SizePoint,
    plot_curves,
    plot_distribution,
    plot_probabilities,
    plot_sizes,
    series_style,
    short_count,
)
from ecodatum.report.zones import Zone

POINTS = [
    SizePoint("No filter", 12_800, 0.083, 0.008, False),
    SizePoint("A $dear$ <one>", 2_560, 0.301, np.nan, True),
    SizePoint("Another", 2_500, 0.3, 0.02, False),
    SizePoint("A third", 2_600, 0.299, 0.02, False),
]


def every_plot() -> list[Markup]:
    zones = (Zone("a.b", "at_most", 0.2, "reject", "f"), Zone("a.b", "at_least", 0.5, "select", "f"))
    edges, counts = np.linspace(0, 1, 11), np.arange(10)
    found = Distribution("a.b", 45, 0, zones, (0.1, 0.5), edges, counts)
    curve = Curve(8, np.arange(1, 5), np.array([4.0, 3.0, np.nan, 2.0]))
    return [
        plot_sizes(POINTS, "sizes"),
        plot_distribution(found, 'a "quoted" <label>'),
        plot_probabilities(edges, counts, counts[::-1], 0.7, "probabilities"),
        plot_curves([curve], "curves"),
    ]


def texts(plot: Markup) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(plot).iter("text")]


def boxes(plot: Markup) -> dict[str, tuple[float, float, float, float]]:
    """Return about where each text lies, left, top, right and bottom, by the text."""
    found = {}
    for text in ElementTree.fromstring(plot).iter("text"):
        x, y, words = float(text.attrib["x"]), float(text.attrib["y"]), text.text or ""
        left = x - 6 * len(words) if "text-anchor: end" in text.attrib["style"] else x
        found[words] = (left, y - 10, left + 6 * len(words), y + 2)
    return found


def test_they_are_well_formed_named_and_take_their_colours_from_the_page() -> None:
    for plot in every_plot():
        root = ElementTree.fromstring(plot)
        assert root.attrib["role"] == "img" and root.attrib["aria-label"]
        assert not re.search(r": #", plot) and "var(--" in plot
        assert "font-family" not in plot and "http" not in plot
    assert ElementTree.fromstring(every_plot()[1]).attrib["aria-label"] == 'a "quoted" <label>'


def test_no_two_share_an_id_and_every_reference_finds_its_own() -> None:
    ids = [set(re.findall(r' id="([^"]+)"', plot)) for plot in every_plot()]
    assert all(not (one & other) for one, other in combinations(ids, 2))
    for plot, own in zip(every_plot(), ids, strict=True):
        assert set(re.findall(r"(?:href=\"|url\()#([^\")]+)", plot)) == own


def test_the_same_numbers_give_the_same_bytes_whatever_matplotlibrc_says() -> None:
    first = every_plot()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.grid": True}):
        assert every_plot() == first
        assert matplotlib.rcParams["font.size"] == 30


def test_titles_are_written_as_they_are_and_apart_from_one_another() -> None:
    plot = plot_sizes(POINTS, "sizes")
    assert "A $dear$ <one>" in texts(plot)
    for one, other in combinations((boxes(plot)[point.title] for point in POINTS), 2):
        beside = one[2] <= other[0] or other[2] <= one[0]
        assert beside or one[3] <= other[1] or other[3] <= one[1]


def test_labels_of_the_axes_keep_their_digits() -> None:
    close = [SizePoint("a", 15, 0.12, 0.005, False), SizePoint("b", 18, 0.13, 0.005, False)]
    ticks = [text for text in texts(plot_sizes(close, "sizes")) if text.startswith("0.")]
    assert len(ticks) == len(set(ticks)) > 3


def test_one_point_and_an_empty_histogram_are_drawn() -> None:
    assert "alone" in texts(plot_sizes([SizePoint("alone", 7, 0.5, np.nan, True)], "one"))
    nothing = Distribution("a.b", 0, 0, (), (), np.array([0.0, 1.0]), np.zeros(1, np.int64))
    assert "<svg" in plot_distribution(nothing, "none")
    with pytest.raises(ValueError, match="has no histogram"):
        plot_distribution(Distribution("a.b", 0, 0, (), ()), "categories")


def test_series_differ_until_colours_and_dashes_are_used_up() -> None:
    assert len({series_style(number) for number in range(3 * COLOURS)}) == 3 * COLOURS


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (50, "50"), (2_500, "2.5 k"), (12_800_000, "12.8 M"), (1.28e10, "12.8 G")]
)
def test_counts_are_short(count: float, shown: str) -> None:
    assert short_count(count) == shown
