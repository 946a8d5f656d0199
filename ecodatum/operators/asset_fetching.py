"""Fetches assets: interrupted downloads go on where they were, and nothing unverified gets its final name."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ecodatum.errors import AssetError, EcoDatumError, RunError
from ecodatum.files import make_folder, remove, replacing
from ecodatum.operators.assets import (
    FOLDER_VARIABLE,
    Asset,
    Record,
    assets_folder,
    checksum,
    files_of,
    is_whole,
    locate,
)

#: What a server answers when there is nothing after the part that is here already.
_RANGE_NOT_SATISFIABLE: Final = 416


def fetch(asset: Asset) -> tuple[Path, bool]:
    """Return where an asset is, and whether it had to be fetched; a wrong file is fetched anew.

    Raises AssetError when it cannot be fetched or is not what it should be, RunError when the folder
    cannot be written to.
    """
    try:
        there = locate(asset)
        if there is not None:
            return there, False
    except AssetError as error:
        if error.where and error.where.startswith(asset.variable):
            raise  # the user's own choice is not ours to fetch
    place = assets_folder() / asset.place
    _require_writable(assets_folder())
    record = Record.read()
    _drop_wrong_files(asset, place, record)
    if asset.hub is not None:
        _from_hub(asset, place, record)
    else:
        _from_url(asset, place)
    if not is_whole(asset, place):
        raise AssetError("fetched, but a file of it is missing", where=place, todo=f"see {asset.source}")
    record.verify(asset, place)
    record.write()
    return place, True


def _require_writable(folder: Path) -> None:
    try:
        make_folder(folder)
    except RunError as error:
        todo = f"set {FOLDER_VARIABLE} to a folder that you may write to"
        raise RunError(error.what, where=error.where, todo=todo) from error


def _drop_wrong_files(asset: Asset, place: Path, record: Record) -> None:
    """Remove the files that are not what they should be, so that only those are fetched again."""
    present = files_of(asset, place) if place.exists() else ()
    for path in present:
        expected = record.expected(asset, path)
        if expected and checksum(path) != expected:
            remove(path)


def _from_url(asset: Asset, place: Path) -> None:
    """Download to a name with `.part`, verify, then rename or unpack."""
    part = assets_folder() / f"{asset.name}.part"
    _download(asset, part)
    if asset.sha256 and checksum(part) != asset.sha256:
        found = checksum(part)
        remove(part)
        raise AssetError(
            f"what {asset.url} gives is not the declared file: its sha256 is {found}, not {asset.sha256}",
            where=asset.name,
            todo=f"try again: {asset.command}\n  or put a file that you trust there: {asset.variable}=PATH",
        )
    if not asset.unpack:
        part.replace(place)
        return
    _unpack(asset, part, place)
    remove(part)


def _download(asset: Asset, part: Path) -> None:
    """Complete the part; the library retries, and goes on with a Range request."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    url = asset.url or ""
    try:
        with part.open("ab") as file:
            http_get(url, file, resume_size=file.tell(), displayed_filename=asset.name)
    except HfHubHTTPError as error:
        if error.response.status_code == _RANGE_NOT_SATISFIABLE:
            return  # it was whole already; whether it is the right one is seen next
        raise _unreachable(asset, url, error) from error
    except EcoDatumError:
        raise
    except Exception as error:  # the library's transport changes from version to version
        raise _unreachable(asset, url, error) from error


def _unpack(asset: Asset, archive: Path, place: Path) -> None:
    """Take the asset's members out of a zip, wherever in it they lie, into one folder."""
    try:
        with zipfile.ZipFile(archive) as packed, replacing(place) as temporary:
            temporary.mkdir()
            for info in packed.infolist():
                name = Path(info.filename).name
                if name in asset.unpack and not info.is_dir():
                    (temporary / name).write_bytes(packed.read(info))
    except zipfile.BadZipFile as error:
        remove(archive)
        raise AssetError(
            f"not a zip: {error}", where=asset.url, todo=f"try again: {asset.command}"
        ) from error


def _from_hub(asset: Asset, place: Path, record: Record) -> None:
    """Take a repository's files at the commit of the first fetch, so that they stay the same."""
    from huggingface_hub import HfApi, snapshot_download

    hub = asset.hub
    if hub is None:
        return
    folder = assets_folder() / asset.name
    where = f"{hub.repo} on the Hugging Face hub"

    def ask() -> None:
        revision = record.revisions.get(asset.name)
        info = HfApi().model_info(hub.repo, revision=revision, files_metadata=True)
        commit = info.sha or revision or "main"
        snapshot_download(hub.repo, revision=commit, local_dir=folder, allow_patterns=list(hub.files))
        record.revisions[asset.name] = commit
        for sibling in info.siblings or []:
            path = folder / sibling.rfilename
            if sibling.lfs and path.is_file() and checksum(path) != sibling.lfs.sha256:
                remove(path)
                raise AssetError(
                    f"damaged on the way: its sha256 is not {sibling.lfs.sha256}",
                    where=path,
                    todo=f"try again: {asset.command}",
                )

    _reaching(asset, where, ask)


def _reaching(asset: Asset, where: str, ask: Callable[[], None]) -> None:
    try:
        ask()
    except EcoDatumError:
        raise
    except Exception as error:  # the library's transport changes from version to version
        raise _unreachable(asset, where, error) from error


def _unreachable(asset: Asset, where: str, error: Exception) -> AssetError:
    why = " ".join(str(error).split())[:300] or type(error).__name__
    return AssetError(
        f"cannot be fetched from {where}: {why}",
        where=asset.name,
        todo=f"where there is a network, go on with: {asset.command}\n"
        f"  or put a file from elsewhere there: {asset.variable}=PATH",
    )
