"""Assets: the models and lists that operators need and that do not come with them, and where they lie."""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field

from ecodatum.errors import AssetError, ConfigError, MissingAssetError, RunError
from ecodatum.files import write_json

FOLDER_VARIABLE: Final = "ECODATUM_ASSETS"
_PREFIX: Final = "ECODATUM_ASSET_"
_DECLARED: Final = Path(__file__).with_name("assets.yaml")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hub(_Model):
    """A repository of the Hugging Face hub, and which of its files belong to the asset (glob patterns)."""

    repo: str
    files: tuple[str, ...] = Field(("*.json", "*.safetensors"), strict=False)


class ClipWeights(_Model):
    """The names under which open_clip lists weights."""

    model: str
    weights: str


class Asset(_Model):
    """One model or list, as `assets.yaml` declares it; the file's head explains the keys."""

    name: str
    what: str
    used_by: tuple[str, ...] = Field(alias="for", strict=False)
    licence: str
    source: str
    url: str | None = None
    unpack: tuple[str, ...] = Field((), strict=False)
    hub: Hub | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    size: int | None = None
    elsewhere: tuple[str, ...] = Field((), strict=False)
    clip: ClipWeights | None = None

    @property
    def variable(self) -> str:
        """The environment variable that puts another file in the asset's place."""
        return _PREFIX + re.sub(r"[^A-Z0-9]", "_", self.name.upper())

    @property
    def place(self) -> str:
        """Where it lies in the assets folder: a file, or a folder for an asset of several files."""
        single = self.hub is not None and len(self.hub.files) == 1
        return f"{self.name}/{self.hub.files[0]}" if single and self.hub else self.name

    @property
    def is_folder(self) -> bool:
        """Whether it has several files."""
        return bool(self.unpack) or (self.hub is not None and len(self.hub.files) > 1)

    @property
    def members(self) -> tuple[str, ...]:
        """Name the files that a folder must hold (glob patterns); none for a file."""
        return self.unpack or (self.hub.files if self.hub and self.is_folder else ())

    @property
    def command(self) -> str:
        """What to type to get it."""
        return f"ecodatum assets fetch {self.name}"


@cache
def declared() -> Mapping[str, Asset]:
    """Return all declared assets by name."""
    document = yaml.safe_load(_DECLARED.read_text(encoding="utf-8"))
    return {name: Asset.model_validate({"name": name, **entry}) for name, entry in document.items()}


def assets_folder() -> Path:
    """Return `$ECODATUM_ASSETS`, by default `ecodatum/assets` in the user's cache folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else platformdirs.user_cache_path("ecodatum") / "assets"


def find_asset(given: str, *, what: str) -> Path:
    """Return the file or folder that `given` stands for; see `find_assets`."""
    (found,) = find_assets([given], what=what)
    return found


def find_assets(given: Sequence[str], *, what: str) -> tuple[Path, ...]:
    """Return the files or folders that names or paths stand for.

    The name of a declared asset is answered with the file that its variable `ECODATUM_ASSET_<NAME>`
    names, else with that in the assets folder, else with that of an installed package or of the system.
    Anything else is a path, as it is or within the assets folder. what: what they are, for the error.

    Raises AssetError, with the command that fetches them, when some are missing, and when a file is not
    the declared or recorded one; ConfigError for a variable that names no asset.
    """
    found = [_locate(name) for name in given]
    missing = [name for name, place in zip(given, found, strict=True) if place is None]
    if missing:
        raise _missing(missing, what)
    return tuple(place for place in found if place is not None)


def clip_asset(model: str, weights: str) -> Asset | None:
    """Return the asset that holds the weights which open_clip lists under these names, if one does."""
    wanted = ClipWeights(model=model, weights=weights)
    return next((asset for asset in declared().values() if asset.clip == wanted), None)


def _locate(given: str) -> Path | None:
    asset = declared().get(given)
    if asset is not None:
        return locate(asset)
    places = (Path(given).expanduser(), assets_folder() / given)
    return next((place for place in places if place.exists()), None)


def locate(asset: Asset) -> Path | None:
    """Return where a declared asset is, its checksum verified; None when it is nowhere.

    Raises AssetError when it is there but wrong, or when its variable names nothing.
    """
    place = replacement(asset)
    if place is not None:
        return place
    place = assets_folder() / asset.place
    if is_whole(asset, place):
        Record.read().verify(asset, place)
        return place
    return next(_elsewhere(asset), None)


def replacement(asset: Asset) -> Path | None:
    """Return what the asset's variable puts in its place; it is used as it is, whatever its checksum."""
    given = _replacements().get(asset.variable)
    if given is None:
        return None
    place = Path(given).expanduser()
    if not is_whole(asset, place):
        holds = f" that holds {', '.join(asset.members)}" if asset.is_folder else ""
        kind = "folder" if asset.is_folder else "file"
        raise AssetError(f"no such {kind}{holds}", where=f"{asset.variable}={given}")
    return place


def _replacements() -> dict[str, str]:
    """Return the variables that replace assets; raises ConfigError for one that names no asset."""
    given = {key: value for key, value in os.environ.items() if key.startswith(_PREFIX) and value}
    known = {asset.variable for asset in declared().values()}
    for key in given:
        if key not in known:
            near = ", ".join(get_close_matches(key, known, n=3))
            raise ConfigError(
                "no asset has this variable",
                where=key,
                todo=f"did you mean {near}?" if near else "see: ecodatum assets list",
            )
    return given


def is_whole(asset: Asset, place: Path) -> bool:
    """Tell whether there is a file, or a folder with a file for each of the asset's members."""
    if asset.is_folder:
        return place.is_dir() and all(any(place.glob(member)) for member in asset.members)
    return place.is_file()


def files_of(asset: Asset, place: Path) -> tuple[Path, ...]:
    """Return the asset's files at a place, in the order of their names."""
    if not asset.is_folder:
        return (place,)
    return folder_files(place, asset.members)


def folder_files(
    folder: Path, patterns: Sequence[str] = Hub.model_fields["files"].default
) -> tuple[Path, ...]:
    """Return the files in a folder that match a pattern, by default a saved model's, sorted by name."""
    return tuple(sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}))


def _elsewhere(asset: Asset) -> Iterator[Path]:
    """Yield the places outside the assets folder where the declared files lie."""
    for written in asset.elsewhere:
        package, colon, inner = written.partition(":")
        place = Path(written)
        if colon:
            spec = importlib.util.find_spec(package)
            place = Path(spec.origin).parent / inner if spec and spec.origin else Path()
        if is_whole(asset, place) and (asset.is_folder or asset.sha256 in (None, checksum(place))):
            yield place


def _missing(names: Sequence[str], what: str) -> AssetError:
    folder = assets_folder()
    hint = "" if os.environ.get(FOLDER_VARIABLE) else f"; {FOLDER_VARIABLE} names another folder with assets"
    known = [name for name in names if name in declared()]
    if not known:
        looked = ", ".join(f"{name}, {folder / name}" for name in names)
        return AssetError(f"{what} not found", where=", ".join(names), todo=f"looked for {looked}{hint}")
    places = [str(folder), *(place for name in known for place in declared()[name].elsewhere)]
    return MissingAssetError(
        f"{what} not found",
        where=", ".join(known),
        todo=f"where there is a network, run: ecodatum assets fetch {' '.join(known)}\n"
        f"  looked in {', '.join(dict.fromkeys(places))}{hint}\n"
        "  all that a recipe needs: ecodatum assets fetch RECIPE",
    )


@lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(path: Path) -> str:
    """Return the sha256 of a file's whole content; a file that this process has read is not read again."""
    state = path.stat()
    return _digest(str(path.resolve()), state.st_size, state.st_mtime_ns)


class Record:
    """What the assets folder remembers: each file's checksum at its first fetch, and the hub's revisions.

    A file whose size and time are those that were recorded is not read again, so that gigabytes of
    weights cost nothing at each start. `checksums.json` in the folder holds it.
    """

    def __init__(self, path: Path, files: dict[str, Any], revisions: dict[str, str]) -> None:
        self._path, self._files, self.revisions = path, files, revisions

    @classmethod
    def read(cls) -> "Record":
        """Read the folder's record; an absent or damaged one is as one without entries."""
        path = assets_folder() / "checksums.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, dict(document["files"]), dict(document["revisions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, {}, {})

    def write(self) -> None:
        """Write it; raises RunError where the folder cannot be written to."""
        write_json(self._path, {"files": self._files, "revisions": self.revisions})

    def forget(self, path: Path) -> None:
        """Remove a file's entry."""
        self._files.pop(self._key(path), None)

    def expected(self, asset: Asset, path: Path) -> str | None:
        """Return what a file's checksum must be: the declared one, else that of the first fetch, if any."""
        if asset.sha256 and not asset.is_folder:
            return asset.sha256
        entry = self._files.get(self._key(path))
        return str(entry["sha256"]) if entry else None

    def verify(self, asset: Asset, place: Path, *, reread: bool = False) -> None:
        """See that an asset's files are the declared or recorded ones, and record what is new.

        reread: read every file whole, even if its size and time are those recorded.
        Raises AssetError that names the file and the command that mends it.
        """
        changed = False
        for path in files_of(asset, place):
            state, entry = path.stat(), self._files.get(self._key(path))
            now = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
            expected = self.expected(asset, path)
            if entry and not reread and {key: entry.get(key) for key in now} == now:
                actual = str(entry["sha256"])
            else:
                actual = checksum(path)
            if expected and actual != expected:
                raise AssetError(
                    f"not the file that it should be: its sha256 is {actual}, not {expected}",
                    where=path,
                    todo=f"run: {asset.command}\n  or, to use it as it is, set {asset.variable}={place}",
                )
            found = {"sha256": actual, **now}
            changed = changed or found != entry
            self._files[self._key(path)] = found
        if changed:
            self._write_if_possible()

    def _write_if_possible(self) -> None:
        """Remember for the next start; in a folder that others look after, nothing is remembered."""
        try:
            self.write()
        except RunError:
            return

    def _key(self, path: Path) -> str:
        return path.relative_to(self._path.parent).as_posix()
