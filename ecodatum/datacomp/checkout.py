"""DataComp's checkout: where it is, whether it is the pinned commit, and how to get it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from ecodatum.errors import AssetError, RunError
from ecodatum.files import replacing

#: What was reproduced: the last commit of DataComp's main branch.
COMMIT: Final = "4a8df1992566ef8334773f7152e1855b1f716162"
SOURCE: Final = "https://github.com/mlfoundations/datacomp"
HOME_VARIABLE: Final = "DATACOMP_HOME"
_INSTALL: Final = f"`ecodatum datacomp install` fetches it; or set {HOME_VARIABLE} to a checkout"


@dataclass(frozen=True)
class Checkout:
    """A folder with DataComp's scripts; `commit` is None where git can't tell, `changed` if files differ."""

    path: Path
    commit: str | None
    changed: bool

    @property
    def pinned(self) -> bool:
        """Whether these are the scripts that this package was tested with, unmodified."""
        return self.commit == COMMIT and not self.changed

    def script(self, name: str) -> Path:
        """Return the path of a script; raises AssetError when there is none of this name."""
        path = self.path / name
        if not path.is_file():
            raise AssetError("DataComp's checkout holds no such script", where=path, todo=_INSTALL)
        return path

    def require_pinned(self) -> None:
        """Raise AssetError unless the scripts are known to be the pinned, unmodified ones."""
        if not self.pinned:
            what = "has changed files" if self.commit == COMMIT else f"is at commit {self.commit}"
            raise AssetError(f"DataComp's checkout {what}, not {COMMIT}", where=self.path, todo=_INSTALL)


def default_folder() -> Path:
    """Return where `install` puts the checkout unless told otherwise."""
    return platformdirs.user_cache_path("ecodatum") / "datacomp"


def find_checkout() -> Checkout:
    """Return the checkout in DATACOMP_HOME, or the one that was installed; raises AssetError."""
    named = os.environ.get(HOME_VARIABLE)
    path = Path(named).expanduser() if named else default_folder()
    if not (path / "evaluate.py").is_file():
        raise AssetError("DataComp's scripts are not here", where=path, todo=_INSTALL)
    path = path.resolve()
    if _git(path, "rev-parse", "--show-toplevel") != str(path):  # a folder in someone else's repository
        return Checkout(path, None, changed=False)
    changes = _git(path, "status", "--porcelain", "--untracked-files=no")
    return Checkout(path, _git(path, "rev-parse", "HEAD"), changed=changes != "")


def install(folder: Path, source: str = SOURCE) -> Checkout:
    """Clone DataComp at the pinned commit into `folder`, unless it is there, and return the checkout.

    `source` is an address or path that git can clone. Raises RunError when that fails.
    """
    if not folder.exists():
        with replacing(folder) as temporary:
            _require(["clone", "--quiet", "--no-checkout", source, str(temporary)], source)
            _require(["-C", str(temporary), "checkout", "--quiet", "--detach", COMMIT], source)
    head = _git(folder, "rev-parse", "HEAD")
    if head != COMMIT:
        raise RunError(f"holds something else (commit {head})", where=folder, todo="choose another folder")
    return Checkout(folder.resolve(), head, changed=False)


def _require(arguments: list[str], source: str) -> None:
    try:
        subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RunError("git is not installed", where=source) from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip() or f"git ended with {error.returncode}"
        todo = f"where there is no network, copy a checkout and set {HOME_VARIABLE} to it"
        raise RunError(f"cannot be cloned: {message}", where=source, todo=todo) from error


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says about a folder; None where it can't be asked."""
    command = ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
