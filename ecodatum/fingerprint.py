"""Fingerprints: short hashes over canonical JSON of what a result depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

_SAMPLE = 1 << 20


def fingerprint(value: Any) -> str:
    """Return 16 hex digits of SHA-256 over `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """Return a hash of a file's size and content; of large files only the first, middle and last MiB.

    The cost per file is constant, so that a pool of any size can be fingerprinted.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= 16 * _SAMPLE:
            digest.update(file.read())
        else:
            for start in (0, size // 2, size - _SAMPLE):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:16]


def content_fingerprints(path: Path) -> dict[str, str]:
    """Return `file_fingerprint` of a file, or of every file in a folder, by the name within the folder."""
    if not path.is_dir():
        return {path.name: file_fingerprint(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file_fingerprint(file) for file in files}
