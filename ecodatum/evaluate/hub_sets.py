"""Fetches evaluation sets from the Hugging Face hub into one folder, and verifies what is there.

DataComp's labelled sets lie there as webdataset folders (user djghosh). The retrieval sets and WinoGAViL
(user nlphuji) are scripts, which are no longer run; the hub keeps their rows as parquet beside them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ecodatum.errors import EcoDatumError, PoolError, RunError
from ecodatum.evaluate.sets import LabelledSet, is_table, table_set
from ecodatum.evaluate.tasks import Task
from ecodatum.files import make_folder, remove, write_json

_CONVERTED: Final = "refs/convert/parquet"
_TEXTS: Final = ("classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt")
_RANGE_NOT_SATISFIABLE: Final = 416

_T = TypeVar("_T")

#: Told of the bytes that have come since it was last told.
Told = Callable[[int], None]


@dataclass(frozen=True)
class SetFile:
    """A file of a set: its name on the hub, its bytes, and its sum (`sha256` or git's own `sha1`)."""

    source: str
    size: int
    algorithm: str
    digest: str


@dataclass(frozen=True)
class SetRecord:
    """Where a set is from, kept beside it as source.json; `files` by their names here."""

    repo: str
    commit: str
    licence: str
    files: Mapping[str, SetFile]

    @property
    def size(self) -> int:
        """The set's bytes."""
        return sum(file.size for file in self.files.values())

    def missing(self, folder: Path) -> list[str]:
        """Return the files that are not there, or not whole by their size."""
        return [
            name
            for name, file in self.files.items()
            if not (folder / name).is_file() or (folder / name).stat().st_size != file.size
        ]


def repository(task: Task) -> str:
    """Return the hub's data set that a task's images are from."""
    return task.data if is_table(task) else f"djghosh/{task.data}"


def read_record(folder: Path) -> SetRecord | None:
    """Return what source.json says of the set in a folder, None where there is none; raises PoolError."""
    path = folder / "source.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {name: SetFile(**file) for name, file in content.pop("files").items()}
        return SetRecord(**content, files=files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PoolError(
            f"cannot be read: {error!r}", where=path, todo="remove it, and fetch again"
        ) from error


def plan_fetch(task: Task, evalsets: Path, endpoint: str | None = None) -> SetRecord:
    """Return what is to be fetched for a task, asking the hub once; kept, so that it stays the same.

    Raises RunError when the hub can't be asked, or has no such set.
    """
    folder = evalsets / task.data
    record = read_record(folder)
    if record is None:
        record = _reaching(repository(task), lambda: _ask(task, endpoint))
        make_folder(folder)
        write_json(folder / "source.json", asdict(record))
    return record


def fetch_set(
    task: Task, evalsets: Path, told: Told = lambda size: None, endpoint: str | None = None
) -> SetRecord:
    """Fetch what a task's set lacks, and return its record; an interrupted file goes on where it was.

    Nothing gets its final name before its sum is right. Raises RunError when it cannot be fetched.
    """
    folder = evalsets / task.data
    record = plan_fetch(task, evalsets, endpoint)
    for name in record.missing(folder):
        _fetch_file(record, name, folder, endpoint)
        told(record.files[name].size)
    return record


def verify_set(task: Task, evalsets: Path) -> str:
    """Read the whole of a task's set and return how it was verified.

    Raises PoolError, naming the file, when one is missing or is not what was fetched.
    """
    folder = evalsets / task.data
    record = read_record(folder)
    if record is None:
        count = sum(
            1 for _ in (table_set(task, folder).rows() if is_table(task) else LabelledSet(folder).images())
        )
        return f"{count:,} samples can be read; there is no record of its sums"
    for name in record.missing(folder):
        raise PoolError("missing, or cut", where=folder / name, todo="fetch this evaluation set again")
    for name, file in record.files.items():
        if _digest(folder / name, file) != file.digest:
            remove(folder / name)
            what = f"its {file.algorithm} is not {file.digest}; it was removed"
            raise PoolError(what, where=folder / name, todo="fetch this evaluation set again")
    return f"{len(record.files)} files as on the hub"


def _ask(task: Task, endpoint: str | None) -> SetRecord:
    from huggingface_hub import HfApi

    repo = repository(task)
    info = HfApi(endpoint=endpoint).dataset_info(
        repo, revision=_CONVERTED if is_table(task) else None, files_metadata=True
    )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    names = _converted_names(siblings) if is_table(task) else _labelled_names(siblings)
    if not names:
        raise RunError("the hub's data set holds no test split in the form that is read here", where=repo)
    licence = getattr(info.card_data, "license", None) or "none named on the hub"
    return SetRecord(
        repo,
        info.sha or "main",
        licence if isinstance(licence, str) else ", ".join(map(str, licence)),
        {name: _file(siblings[source]) for name, source in names.items()},
    )


def _labelled_names(siblings: Mapping[str, Any]) -> dict[str, str]:
    tars = [name for name in siblings if name.startswith("test/") and name.endswith(".tar")]
    whole = tars and all(name in siblings for name in _TEXTS)
    return {name: name for name in (*_TEXTS, *sorted(tars))} if whole else {}


def _converted_names(siblings: Mapping[str, Any]) -> dict[str, str]:
    """Return the parquet files of the test split under the names that DataComp's layout gives them."""
    files = sorted(name for name in siblings if Path(name).suffix == ".parquet")
    tests = [name for name in files if Path(name).parent.name.lower() == "test"]
    return {f"test-{i:05d}-of-{len(tests):05d}.parquet": name for i, name in enumerate(tests)}


def _file(sibling: Any) -> SetFile:
    if sibling.lfs is not None:
        return SetFile(sibling.rfilename, sibling.lfs.size, "sha256", sibling.lfs.sha256)
    return SetFile(sibling.rfilename, sibling.size, "sha1", sibling.blob_id)


def _fetch_file(record: SetRecord, name: str, folder: Path, endpoint: str | None) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    file = record.files[name]
    url = hf_hub_url(record.repo, file.source, repo_type="dataset", revision=record.commit, endpoint=endpoint)
    part = folder / f"{name}.part"
    make_folder(part.parent)

    def download() -> None:
        try:
            with part.open("ab") as stream:
                http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers())
        except HfHubHTTPError as error:
            if error.response.status_code != _RANGE_NOT_SATISFIABLE:  # which says that it is whole already
                raise

    if not part.exists() or part.stat().st_size < file.size:
        _reaching(url, download)
    if part.stat().st_size != file.size or _digest(part, file) != file.digest:
        remove(part)
        raise RunError(f"what came is not the file: its {file.algorithm} is not {file.digest}", where=url)
    part.replace(folder / name)


def _digest(path: Path, file: SetFile) -> str:
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    if file.algorithm == "sha1":  # git's name of a file
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reaching(where: str, ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except EcoDatumError:
        raise
    except Exception as error:  # the library's transport changes from version to version
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(
            f"cannot be fetched: {why}", where=where, todo="fetch where there is a network"
        ) from error
