"""Packs a folder into one small archive, the same bytes for the same files."""

import io
import lzma
import tarfile
from pathlib import Path
from typing import Final

#: A dictionary that spans the whole folder: tars repeat their headers, both similarity models agree.
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]


def pack(folder: Path, archive: Path) -> None:
    """Write `folder`, under its own name, to the xz-compressed tar `archive`."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [folder, *sorted(folder.rglob("*"))]:
            info = tar.gettarinfo(path, str(path.relative_to(folder.parent)))
            info.mtime, info.uid, info.gid, info.uname, info.gname = 1_700_000_000, 0, 0, "", ""
            info.mode = 0o755 if path.is_dir() else 0o644
            if path.is_dir():
                tar.addfile(info)
            else:
                with path.open("rb") as file:
                    tar.addfile(info, file)
    archive.write_bytes(lzma.compress(plain.getvalue(), filters=_FILTERS))
