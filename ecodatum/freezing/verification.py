"""Whether a frozen run's results still follow from what it was frozen with, and what differs."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import EcoDatumError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.freezing.frozen import Frozen, asset_sums, pool_state, software, thaw, unit_marks
from ecodatum.operators.assets import checksum
from ecodatum.pipeline.chain import chain, contradictions, find_run
from ecodatum.pipeline.curation import VERSIONS
from ecodatum.pipeline.graph import Graph
from ecodatum.pipeline.run import Reporter, run_stages
from ecodatum.pipeline.training_jobs import read_results

#: What is verified, in this order, with what holds when nothing differs.
CHECKS: Final = {
    "pool": "the same rows and shards",
    "assets": "the same files behind the operators",
    "fingerprints": "each step is made from what it was made from",
    "manifests": "each step left what its manifest says",
    "files": "subset, checkpoint and results have their sha256",
    "scores": "the results give the same means",
}
AGAIN: Final = "curated again"


@dataclass(frozen=True)
class Finding:
    """One thing that was verified, and in what it differs."""

    name: str
    differences: tuple[str, ...]

    @property
    def said(self) -> str:
        """What to tell of it."""
        return "; ".join(self.differences) or CHECKS.get(self.name, "the subset has the same bytes")


def verify(
    frozen: Frozen, work: Path, *, pool: Path | None = None, data: Path | None = None
) -> tuple[Finding, ...]:
    """Compare a frozen run with what is in a work folder, the pool, and the assets now.

    pool, data: where the pool and the evaluation sets are now, if they have moved. Raises EcoDatumError
    when the run cannot even be planned: a pool, an asset or an operator is missing.
    """
    work = work.expanduser().resolve()
    with tempfile.TemporaryDirectory() as folder:
        graph = thaw(frozen, Path(folder), work, pool=pool, data=data)
        found = {
            "pool": _pool(frozen, graph),
            "assets": _unlike(frozen.assets, asset_sums(graph)),
            "fingerprints": _unlike(frozen.units, unit_marks(graph, frozen.run)),
            "manifests": _manifests(frozen, graph),
            "files": _files(frozen, work),
            "scores": _scores(frozen, graph),
        }
        return tuple(Finding(name, tuple(_noting(found[name]))) for name in CHECKS)


def curate_again(
    frozen: Frozen,
    folder: Path,
    *,
    jobs: int,
    reporter: Callable[[], Reporter],
    pool: Path | None = None,
    data: Path | None = None,
) -> Finding:
    """Score, fit and select anew in a folder of its own, and compare the subset's bytes.

    What is done in the folder already is not done again. Raises RunError when a unit fails.
    """
    graph = thaw(frozen, folder / "frozen", folder, pool=pool, data=data)
    run_stages(graph.units, list(VERSIONS), jobs=jobs, folder=graph.folder, reporter=reporter())
    subset = find_run(graph, frozen.run).subset.path
    wanted, found = frozen.outputs["subset"].sha256, checksum(subset)
    same = () if found == wanted else (f"{subset}: sha256 is {found}, and was {wanted}",)
    return Finding(AGAIN, same)


def other_software(frozen: Frozen) -> list[str]:
    """List what of the software here is not as it was; the results may still be the same."""
    then, now = frozen.software, software()
    plain = {"packages"}
    told = _unlike(then.model_dump(exclude=plain), now.model_dump(exclude=plain))
    return [*told, *_unlike(then.packages, now.packages)]


def _noting(differences: Iterable[str]) -> Iterator[str]:
    """Take what cannot be read for one more difference."""
    try:
        yield from differences
    except EcoDatumError as error:
        yield str(error).partition("\n")[0]


def _unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            yield f"{key} is {_plain(now.get(key))}, and was {_plain(then.get(key))}"


def _plain(value: Any) -> str:
    if value is None:
        return "absent"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _pool(frozen: Frozen, graph: Graph) -> Iterator[str]:
    then, now = frozen.pool, pool_state(graph)
    if then.rows != now.rows:
        yield f"{now.rows:,} rows, where there were {then.rows:,}"
    for part in sorted({*then.parts, *now.parts}):
        was, here = then.parts.get(part), now.parts.get(part)
        if was is None or here is None:
            yield f"part {part} {'is new' if was is None else 'is gone'}"
            continue
        for what, before, after in zip(("rows", "metadata", "shards"), was, here, strict=True):
            if before != after:
                yield f"part {part}: {what} are not the same ({after}, was {before})"


def _manifests(frozen: Frozen, graph: Graph) -> Iterator[str]:
    for unit, output in chain(graph, find_run(graph, frozen.run)):
        for problem in contradictions(unit, output):
            yield f"{unit.stage} {unit.name}: {problem}"


def _files(frozen: Frozen, work: Path) -> Iterator[str]:
    for what, state in frozen.outputs.items():
        path = work / state.path
        if not path.is_file():
            yield f"{what}: no file {path}"
        elif path.stat().st_size != state.size:
            yield f"{what}: {path.stat().st_size:,} bytes, and there were {state.size:,}: {path}"
        elif (found := checksum(path)) != state.sha256:
            yield f"{what}: sha256 is {found}, and was {state.sha256}: {path}"


def _scores(frozen: Frozen, graph: Graph) -> Iterator[str]:
    results = graph.work / frozen.outputs["results"].path
    try:
        means = aggregate(read_results(results.parent), graph.tasks)
    except (OSError, ValueError, KeyError) as error:
        yield f"cannot be read: {error!r}"
        return
    yield from _unlike(frozen.scores, means)
