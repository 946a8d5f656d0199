"""What a threshold search needs on disk, and its workers: stored scores and labels, and the study."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ecodatum.cli.console import StageProgress, err
from ecodatum.cli.curation import unscored
from ecodatum.curate.knobs import Candidates, find_knobs
from ecodatum.curate.labels import Labels, first_half, read_labels
from ecodatum.curate.recipe import Recipe
from ecodatum.curate.samples import draw_scores, labelled_scores, open_sample, store_scores, stored_scores
from ecodatum.curate.search import Plan, search
from ecodatum.curate.tuning import Alphas, Bench, F1At, Labelled
from ecodatum.curate.voting import load_columns
from ecodatum.errors import ConfigError, RunError
from ecodatum.files import replacing
from ecodatum.fingerprint import fingerprint
from ecodatum.pipeline.curation import Curation
from ecodatum.pipeline.curation_jobs import Vote
from ecodatum.pipeline.experiment import Filter
from ecodatum.pipeline.graph import resolve_device
from ecodatum.pipeline.part_files import PartFiles
from ecodatum.pipeline.run import run_stages
from ecodatum.pool.archive import unpacked
from ecodatum.pool.pool import open_pool


@dataclass(frozen=True)
class Task:
    """What a worker needs to take part in a search; the folder holds the scores, the labels and the study."""

    recipe: Recipe
    candidates: Candidates
    alphas: Alphas
    f1_at: F1At
    plan: Plan
    functions: tuple[str, ...]
    folder: Path

    def open(self) -> tuple[Bench, Labelled, Labelled]:
        """Return the bench, and the labelled samples: those to search with, and those held out."""
        labels = np.load(self.folder / "labels.npz")
        pool = open_sample(self.recipe, stored_scores(self.folder / "pool"), int(labels["rows"]))
        knobs = find_knobs(self.recipe, pool, self.candidates, self.functions)
        columns = load_columns(stored_scores(self.folder / "labelled"), self.recipe.scores())
        labelled = Labelled(columns, labels["good"])
        bench = Bench(self.recipe, pool, knobs, self.alphas, self.f1_at)
        return bench, labelled.take(labels["search"]), labelled.take(~labels["search"])


def prepared(task: Task, pool: Path, labels_at: Path, size: int, work: Path, device: str) -> Task:
    """Score what lacks scores, store the samples, and return the task with its folder."""
    recipe, labels = task.recipe, read_labels(labels_at)
    parts, mark = _scored(recipe, pool, work, device)
    marks = [mark]
    own = parts
    if labels_at.is_dir():
        own, mark = _scored(recipe, labels_at, work, device)
        marks.append(mark)
    document = recipe.model_dump(mode="json", by_alias=True)
    settings = [asdict(task.candidates), asdict(task.alphas), task.f1_at, task.functions]
    plan = [task.plan.sampler, task.plan.seed, size]
    mark = fingerprint([2, document, settings, plan, marks, labels.uids.tolist(), labels.good.tolist()])
    folder = work / "tune" / f"{recipe.name}@{mark}"
    if not folder.is_dir():
        names = recipe.scores()
        with err.status("reading scores"), replacing(folder) as temporary:
            drawn = draw_scores([part.scores() for part in parts], names, size, task.plan.seed)
            store_scores(drawn, temporary / "pool")
            rows = ((part.uids(), part.scores()) for part in own)
            table, found = labelled_scores(rows, names, labels)
            search = first_half(_enough(found, labels, labels_at), task.plan.seed)
            store_scores(table, temporary / "labelled")
            np.savez(
                temporary / "labels.npz", good=found.good, search=search, rows=sum(p.part.rows for p in parts)
            )
    return Task(recipe, task.candidates, task.alphas, task.f1_at, task.plan, task.functions, folder)


def _enough(found: Labels, labels: Labels, where: Path) -> Labels:
    """Return the labels that were found, if they can be halved; raises ConfigError otherwise."""
    absent = len(labels.uids) - len(found.uids)
    if absent:
        err.print(f"{absent:,} of {len(labels.uids):,} labelled samples are not in the pool")
    if min(int(found.good.sum()), int((~found.good).sum())) < 2:
        raise ConfigError(
            "needs two samples of each label in the pool at least", where=where, todo="are they of this pool?"
        )
    return found


def _scored(recipe: Recipe, pool: Path, work: Path, device: str) -> tuple[list[PartFiles], str]:
    """Score a pool with the recipe's operators as far as that is not done; return its parts and a hash."""
    opened = open_pool(unpacked(pool, work / "unpacked"))
    folder = work / "tune"
    curation = Curation(opened, work, folder / "logs", resolve_device(device))
    curation.plan([Filter(name=recipe.name, title=recipe.title, recipe=recipe)])
    try:
        run_stages(curation.units, ("score",), jobs=0, folder=folder, reporter=StageProgress())
    finally:
        for line in unscored(curation.units):
            err.print(line)
    return [unit.job.part for unit in curation.units if isinstance(unit.job, Vote)], opened.fingerprint


def search_apart(task: Task, jobs: int, watch: Callable[[], None]) -> None:
    """Search in `jobs` processes; raises RunError when one of them dies."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as workers:
        waiting: set[Future[None]] = {workers.submit(_work, task, number) for number in range(jobs)}
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
                watch()
        except BrokenProcessPool:
            raise RunError(
                "a worker of the search died",
                where=task.folder,
                todo="give the same command again: its study goes on where it was",
            ) from None


def _work(task: Task, number: int) -> None:
    """Take part in a search, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    bench, labelled, _ = task.open()
    search(bench, labelled, task.folder, task.plan, told=lambda done: None, worker=number)
