"""Entries: a subset, the training on it and its results, wherever they were made."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecodatum.errors import RunError
from ecodatum.pipeline.chain import Link, chain, find_run
from ecodatum.pipeline.graph import Graph
from ecodatum.pipeline.training_jobs import RESULTS, TRAINING
from ecodatum.pool.pool import Pool, open_pool
from ecodatum.train.arguments import input_shards
from ecodatum.train.readable import local_shards


@dataclass(frozen=True)
class Entry:
    """What is submitted, and what it rests on.

    shards: the folders of shards, or tars, that the training read, joined by `::`. mark: a fingerprint of
    what made it. links: the units of the experiment that made it; none for a training by itself.
    """

    name: str
    title: str
    mark: str
    pool: Pool
    subset: Path
    shards: str
    training: Path
    evaluation: Path
    links: tuple[Link, ...] = ()

    @property
    def checkpoint(self) -> Path:
        """The weights that were trained."""
        return self.training / "checkpoints" / "epoch_latest.pt"

    @property
    def results(self) -> Path:
        """The lines that `evaluate.py` writes."""
        return self.evaluation / RESULTS

    def manifest(self, stage: str, section: str) -> Mapping[str, Any]:
        """Return a section of the manifest of the only unit of a stage; raises RunError."""
        output = next(output for unit, output in self.links if unit.stage == stage)
        try:
            found = output.read()[section]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"does not tell the {section}: {error!r}", where=output.manifest) from None
        if not isinstance(found, dict):
            raise RunError(f"does not tell the {section}", where=output.manifest)
        return found


def entry_of_run(graph: Graph, name: str) -> Entry:
    """Return the entry of an experiment's run; raises RunError when there is no such run, or not yet."""
    run = find_run(graph, name)
    links = chain(graph, run)
    if not (run.evaluation.path / RESULTS).exists():
        raise RunError(
            "this run is not finished, or what it is made from has changed since",
            where=name,
            todo="`ecodatum plan` shows what is done, and `ecodatum run` does the rest",
        )
    shards = [output.path for unit, output in links if unit.stage == "reshard"]
    return Entry(
        name=run.name,
        title=run.filter.title,
        mark=run.evaluation.fingerprint,
        pool=graph.pool,
        subset=run.subset.path,
        shards="::".join(str(folder) for folder in shards if any(folder.glob("*.tar"))),
        training=run.training.path / TRAINING,
        evaluation=run.evaluation.path,
        links=links,
    )


def entry_of_folders(pool: Path, subset: Path, training: Path, evaluation: Path) -> Entry:
    """Return the entry of a training by itself: `ecodatum train`'s, or DataComp's.

    training: the folder with info.pkl. evaluation: the one with eval_results.jsonl, often the same.
    Raises PoolError or RunError when they cannot be read.
    """
    info = read_info(training)
    return Entry(
        name=training.name,
        title=training.name,
        mark="",
        pool=open_pool(pool),
        subset=subset,
        shards=str(info.get("data_dir", "")),
        training=training,
        evaluation=evaluation,
    )


def shard_files(entry: Entry) -> list[Path]:
    """List the tars that the training read.

    Raises PoolError when some are missing, RunError when they are not on this machine's file system.
    """
    shards, _ = input_shards(entry.shards)
    files = local_shards(shards)
    if "pipe:" in shards or not files:
        raise RunError("shards that are not on a file system cannot be compared", where=entry.shards)
    return files


class _Unpickler(pickle.Unpickler):
    """Unpickles plain values and paths, so that a training folder from elsewhere can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "pathlib" and name in {"PosixPath", "PurePosixPath"}:
            return Path
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_info(training: Path) -> Mapping[str, Any]:
    """Return DataComp's info.pkl; raises RunError when it is missing, damaged, or holds more than values."""
    path = training / "info.pkl"
    try:
        with path.open("rb") as file:
            info = _Unpickler(file).load()
    except FileNotFoundError:
        raise RunError("no info.pkl: this training is not finished", where=training) from None
    except (pickle.UnpicklingError, EOFError, OSError, ValueError, IndexError, KeyError) as error:
        raise RunError(f"cannot be read: {error}", where=path) from error
    if not isinstance(info, dict):
        raise RunError("holds no mapping", where=path)
    return info
