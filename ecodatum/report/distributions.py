"""Distributions of scores over a pool: streamed part by part, twice, in the memory of one part's column."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.curate.recipe import Condition
from ecodatum.curate.scores import as_numbers
from ecodatum.curate.voting import holds
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.report.zones import Zone

_BINS: Final = 60
#: What lies outside of all parts' quantiles is counted in the first and the last bin.
_QUANTILES: Final = (0.001, 0.999)
_CATEGORIES: Final = 6
OTHERS: Final = "others"


@dataclass(frozen=True)
class Distribution:
    """How a score is spread over the pool.

    rows: of the pool; missing: those without a score. edges, counts: (k + 1,) and (k,), the histogram of
    a score with an order. categories: the most frequent values of one without, and `OTHERS`. shares: of
    each zone, the share of the rows in it.
    """

    score: str
    rows: int
    missing: int
    zones: tuple[Zone, ...]
    shares: tuple[float, ...]
    edges: npt.NDArray[np.float64] | None = None
    counts: npt.NDArray[np.int64] | None = None
    categories: tuple[tuple[str, int], ...] = ()


def distribution(parts: Sequence[PartFiles], score: str, zones: Sequence[Zone]) -> Distribution | None:
    """Return the distribution of a score over parts, with the zones that divide it.

    None where not all parts have the score (yet). Raises PoolError for damaged scores.
    """
    operator = score.partition(".")[0]
    if not parts or not all(part.files[operator].exists() for part in parts):
        return None
    mine = tuple(dict.fromkeys(zone for zone in zones if zone.score == score))
    rows, missing, inside = 0, 0, np.zeros(len(mine), np.int64)
    for column in _columns(parts, score):
        rows += len(column)
        missing += column.null_count
        inside += np.array([_inside(zone, column) for zone in mine], np.int64)
    shares = tuple((inside / max(rows, 1)).tolist())
    kind = next(_columns(parts[:1], score)).type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        edges, counts = _histogram(parts, score, mine)
        return Distribution(score, rows, missing, mine, shares, edges, counts)
    return Distribution(score, rows, missing, mine, shares, categories=_categories(parts, score))


def _columns(parts: Sequence[PartFiles], score: str) -> Iterator[pa.ChunkedArray]:
    for part in parts:
        yield part.scores().column(score)


def _inside(zone: Zone, column: pa.ChunkedArray) -> int:
    contrary = zone.comparison == "is not"
    key = "is" if contrary else zone.comparison
    count = int(holds(Condition.model_validate({"score": zone.score, key: zone.value}), column).sum())
    return len(column) - column.null_count - count if contrary else count


def _histogram(
    parts: Sequence[PartFiles], score: str, zones: Sequence[Zone]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    bounds = [np.quantile(values, _QUANTILES) for values in _finite(parts, score) if len(values)]
    marks = [zone.value for zone in zones if isinstance(zone.value, float)]
    ends = np.array([*np.ravel(bounds), *marks] or [0.0, 1.0], np.float64)
    edges = _edges(float(ends.min()), float(ends.max()), whole=_whole(parts, score))
    counts = np.zeros(len(edges) - 1, np.int64)
    for values in _finite(parts, score):
        counts += np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return edges, counts


def _finite(parts: Sequence[PartFiles], score: str) -> Iterator[npt.NDArray[np.float64]]:
    for column in _columns(parts, score):
        values = as_numbers(column).astype(np.float64)
        yield values[np.isfinite(values)]


def _whole(parts: Sequence[PartFiles], score: str) -> bool:
    return bool(pa.types.is_integer(next(_columns(parts[:1], score)).type))


def _edges(low: float, high: float, *, whole: bool) -> npt.NDArray[np.float64]:
    """Return equal bins from `low` to `high`; of whole numbers, as many to each."""
    if whole:
        step = max(1.0, np.ceil((high - low + 1) / _BINS))
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + step + 0.5, step)
    room = (high - low) * 0.02 or 0.5
    return np.linspace(low - room, high + room, _BINS + 1)


def _categories(parts: Sequence[PartFiles], score: str) -> tuple[tuple[str, int], ...]:
    counter: Counter[str] = Counter()
    for column in _columns(parts, score):
        found = pc.value_counts(column.drop_null().cast(pa.string()))
        counter.update(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))
    # The order of equal counts must not depend on the order of the parts' values.
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[_CATEGORIES:])
    return (*ordered[:_CATEGORIES], *([(OTHERS, rest)] if rest else []))
