"""All that is checked of an entry before anything is sent, and the reasons why one is refused."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ecodatum.errors import EcoDatumError, RunError
from ecodatum.pipeline.chain import contradictions
from ecodatum.pool.subsets import read_subset
from ecodatum.pool.uids import UidArray
from ecodatum.submission.checkpoint import check_checkpoint
from ecodatum.submission.entry import Entry, shard_files
from ecodatum.submission.hyperparameters import check_hyperparameters, read_json, read_params, scale_of
from ecodatum.submission.results import check_results, read_lines
from ecodatum.submission.samples import compare, outside
from ecodatum.train.arguments import input_shards
from ecodatum.train.readable import data_identity, local_shards
from ecodatum.train.scales import Scale

#: The checks in their order, with what holds when one finds nothing.
CHECKS: Final = {
    "subset": "u8,u8, sorted, and all of it is in the pool",
    "scale": "DataComp's hyper-parameters in each record of the training",
    "shards": "the samples of the subset that have an image, and no others",
    "training": "on these shards",
    "checkpoint": "whole, of the scale's model, and the one that was evaluated",
    "results": "all forty, and possible",
    "provenance": "every step is what the experiment makes, and as its manifest has it",
}


@dataclass(frozen=True)
class Check:
    """A check and what it found: nothing, when it holds."""

    name: str
    problems: tuple[str, ...]

    @property
    def said(self) -> str:
        """What to tell of it in a line."""
        if not self.problems:
            return CHECKS[self.name]
        more = len(self.problems) - 1
        return self.problems[0] + (f"; and {more} more" if more else "")


def check(entry: Entry, progress: Callable[[int], None] = lambda shards: None) -> tuple[Check, ...]:
    """Check an entry; `progress` is called with 1 for each shard that was read.

    A check that needs what another found unusable says so.
    """
    return tuple(Check(name, tuple(_noting(problems))) for name, problems in _checks(entry, progress))


def _checks(entry: Entry, progress: Callable[[int], None]) -> Iterator[tuple[str, Iterable[str]]]:
    yield "subset", _check_subset(entry)
    yield "scale", _check_scale(entry)
    yield "shards", _check_shards(entry, progress)
    yield "training", _check_training(entry)
    yield "checkpoint", _check_checkpoint(entry)
    yield "results", _check_results(entry)
    if entry.links:
        yield "provenance", _check_provenance(entry)


def _noting(problems: Iterable[str]) -> Iterator[str]:
    """Take what cannot be read at all for one more problem."""
    try:
        yield from problems
    except EcoDatumError as error:
        yield str(error).partition("\n")[0]


def require(checks: Iterable[Check], name: str) -> None:
    """Raise RunError, with all reasons, when a check does not hold."""
    failed = [found for found in checks if found.problems]
    if failed:
        reasons = [f"\n  {found.name}: {problem}" for found in failed for problem in found.problems]
        raise RunError(f"refused:{''.join(reasons)}", where=name)


def _check_subset(entry: Entry) -> Iterator[str]:
    subset = read_subset(entry.subset)
    if len(subset) == 0:
        yield "it is empty"
    if entry.links:
        kept = entry.manifest("select", "counts").get("kept")
        if kept != len(subset):
            yield f"it holds {len(subset):,} uids, where {kept:,} were selected"
    foreign = outside(subset, entry.pool)
    if foreign:
        yield f"{foreign:,} of its {len(subset):,} uids are not in the pool {entry.pool.path}"


def _check_scale(entry: Entry) -> Iterator[str]:
    scale = scale_of(entry)
    # Each scale's pool has as many rows as its training sees samples (DataComp, section 3.4).
    if entry.pool.rows > scale.samples_seen:
        yield f"the pool has {entry.pool.rows:,} rows, where {scale.name}'s has {scale.samples_seen:,}"
    yield from check_hyperparameters(entry, scale)


def _check_shards(entry: Entry, progress: Callable[[int], None]) -> Iterator[str]:
    subset: UidArray = read_subset(entry.subset)
    found = compare(subset, entry.pool, shard_files(entry), progress)
    if found.foreign:
        yield f"{found.foreign:,} of {found.written:,} samples that were trained on are not in the subset"
    if found.surplus:
        yield f"{found.surplus:,} samples were trained on more often than they are in the subset"
    if found.lacking:
        yield f"{found.lacking:,} samples of the subset have an image, and were not trained on"


def _check_training(entry: Entry) -> Iterator[str]:
    files = shard_files(entry)
    params = read_params(entry.training)
    read = [file.name for file in local_shards(params.get("train_data", ""))]
    if read != [file.name for file in files]:
        yield f"params.txt: {len(read)} shards were trained on, where there are {len(files)}"
    settings = entry.training / "settings.json"
    if settings.exists() and params.get("train_data_upsampling_factors", "None") == "None":
        identity = data_identity(entry.shards, None)
        if read_json(settings).get("data") != identity:
            yield f"settings.json: the training was on other shards than {input_shards(entry.shards)[0]}"


def _check_checkpoint(entry: Entry) -> Iterator[str]:
    try:
        scale: Scale = scale_of(entry)
    except RunError:
        yield "cannot be checked without one of the leaderboard's scales"
        return
    yield from check_checkpoint(entry, scale)


def _check_results(entry: Entry) -> Iterator[str]:
    yield from check_results(read_lines(entry.results))


def _check_provenance(entry: Entry) -> Iterator[str]:
    for unit, output in entry.links:
        for problem in contradictions(unit, output):
            yield f"{unit.stage} {unit.name}: {problem}"
