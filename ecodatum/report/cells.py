"""What the numbers of a table look like."""

import math
from typing import Any, Final

import pandas as pd

#: A number that there is none of.
NONE: Final = "–"


def score(mean: float, std: float = math.nan) -> str:
    """Return a fraction with three decimals, and its standard deviation if there is one: `0.182 ± 0.012`."""
    if math.isnan(mean):
        return NONE
    return f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"


def difference(value: float) -> str:
    """Return a difference with its sign, a true minus, and without a sign where it rounds to zero."""
    if math.isnan(value):
        return NONE
    shown = f"{value:+.3f}".replace("-", "−")
    return "0.000" if shown[1:] == "0.000" else shown


def interval(low: float, high: float) -> str:
    """Return an interval of differences."""
    return NONE if math.isnan(low) else f"{difference(low)} to {difference(high)}"


def probability(value: float) -> str:
    """Return a p-value."""
    if math.isnan(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def samples(count: Any) -> str:
    """Return a number of samples, an integer or a missing value of pandas."""
    return NONE if pd.isna(count) else f"{int(count):,}"
