"""Bundles: a folder with what DataComp's evaluate.py reads and sends, and a note of what it holds."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ecodatum.errors import RunError
from ecodatum.evaluate.aggregate import aggregate
from ecodatum.evaluate.tasks import load_tasks
from ecodatum.files import replacing, write_json
from ecodatum.fingerprint import fingerprint
from ecodatum.operators.assets import checksum
from ecodatum.pipeline.training_jobs import RESULTS
from ecodatum.pool.subsets import read_subset
from ecodatum.submission.entry import Entry, read_info
from ecodatum.submission.results import read_lines

NOTE: Final = "bundle.json"


@dataclass(frozen=True)
class Details:
    """What the leaderboard wants to know besides, under evaluate.py's names; `writeup` is optional."""

    method_name: str
    author: str
    email: str
    hf_username: str
    hf_repo_name: str
    writeup: str | None = None
    upload_checkpoint: bool = False


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: its folder, the entry, and the details."""

    folder: Path
    entry: Entry
    details: Details
    size: int

    @property
    def samples(self) -> Path:
        """The subset, under the name that it has on the hub."""
        return self.folder / f"{self.entry.name}.npy"


def record(entry: Entry, details: Details | None) -> dict[str, Any]:
    """Return the record that goes into the leaderboard's database, its time left out.

    Source: DataComp evaluate.py, `submit_to_firebase`. Without details their values are None.
    """
    info = read_info(entry.training)
    config = info["scale_config"]
    given = asdict(details) if details else {}
    named = ("method_name", "author", "email", "hf_username", "hf_repo_name")
    return {
        "scale": info["scale"],
        "track": "filtering",
        "model": config["model"],
        "dataset_size": str(len(read_subset(entry.subset))),
        "checkpoint": str(info["checkpoint"]),
        "batch_size": config["batch_size"],
        "learning_rate": config["learning_rate"],
        **{name: given.get(name) for name in (*named, "writeup")},
        **{
            line["dataset"]: line["metrics"]["main_metric"]
            for line in read_lines(entry.results)
            if line["metrics"].get("main_metric") is not None
        },
    }


def scores(entry: Entry) -> dict[str, float]:
    """Return the groups' means and the average over the 38 tasks with a main metric."""
    return aggregate(read_lines(entry.results), load_tasks("datacomp"))


def files_to_send(entry: Entry, details: Details | None) -> dict[str, Path]:
    """Return what goes to the hub, by its name there. Source: evaluate.py, `push_files_to_hub`."""
    folder = f"{read_info(entry.training)['scale']}_scale"
    files = {f"{folder}/results.jsonl": entry.results, f"{folder}/samples/{entry.name}.npy": entry.subset}
    if details is not None and details.upload_checkpoint:
        files[f"{folder}/checkpoint.pt"] = entry.checkpoint
    return files


def write_bundle(entry: Entry, details: Details, folder: Path) -> Bundle:
    """Write a bundle to a folder of its own below `folder`, unless it is there, and return it.

    Raises RunError when it is there and holds anything else than what would be written now.
    """
    files = {
        "info.pkl": entry.training / "info.pkl",
        RESULTS: entry.results,
        f"{entry.name}.npy": entry.subset,
    }
    sums = {name: checksum(file) for name, file in files.items()}
    note = {
        "entry": entry.name,
        "made from": entry.mark,
        "training": str(entry.training),
        "checkpoint": checksum(entry.checkpoint),
        "files": sums,
        "record": record(entry, details),
        "details": asdict(details),
    }
    place = folder / f"{entry.name}@{fingerprint(note)}"
    if place.exists():
        _require_same(place, note)
    else:
        with replacing(place) as temporary:
            temporary.mkdir()
            for name, file in files.items():
                shutil.copyfile(file, temporary / name)
            write_json(temporary / NOTE, note)
    return Bundle(place, entry, details, len(read_subset(entry.subset)))


def _require_same(place: Path, note: Mapping[str, Any]) -> None:
    try:
        there = json.loads((place / NOTE).read_text(encoding="utf-8"))
        changed = [name for name, total in note["files"].items() if checksum(place / name) != total]
    except (OSError, ValueError) as error:
        raise RunError(f"the bundle cannot be read: {error}", where=place) from None
    if there != note:
        changed.append(NOTE)
    if changed:
        raise RunError(
            f"the bundle was changed after it was written: {', '.join(changed)}",
            where=place,
            todo="remove this folder; it is written anew from the run",
        )
