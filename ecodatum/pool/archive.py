"""Archives: a pool or evaluation sets packed as one tar.xz, unpacked once into a folder of one's own."""

import fcntl
import lzma
import tarfile
from pathlib import Path

from ecodatum.errors import PoolError
from ecodatum.files import make_folder, replacing
from ecodatum.fingerprint import file_fingerprint

_SUFFIX = ".tar.xz"


def unpacked(path: Path, folder: Path) -> Path:
    """Return `path`, or, where it is a `.tar.xz`, the folder that it was unpacked to below `folder`.

    An archive holds one top folder. It is unpacked the first time only, all or nothing. Raises
    PoolError when it is damaged.
    """
    if not path.name.endswith(_SUFFIX):
        return path
    if not path.is_file():
        raise PoolError("no such archive", where=path)
    target = folder / f"{path.name.removesuffix(_SUFFIX)}@{file_fingerprint(path)}"
    if not target.is_dir():
        make_folder(folder)
        with (folder / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be unpacking it, or have done so
            if not target.is_dir():
                with replacing(target) as temporary:
                    _extract(path, temporary)
    (top,) = target.iterdir()
    return top


def _extract(path: Path, target: Path) -> None:
    try:
        with tarfile.open(path, "r:xz") as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise PoolError(f"damaged archive: {error}", where=path, todo="get the file again") from error
    if len(list(target.iterdir())) != 1:
        raise PoolError("the archive does not hold one folder", where=path)
