"""Experiment files that extend another: mappings are merged, everything else is replaced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ecodatum.content import find, read_yaml
from ecodatum.errors import ConfigError

#: The parts of an experiment that name files, by paths beside the file that they stand in.
_WITH_PATHS: Final = ("pool", "filters", "train", "evaluate")
_FOLDERS: Final = ("pool", "data")
_WORDS: Final = ("name", "title")


def read_extended(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read an experiment file with what it extends.

    `extends` is a path, or the name of a file beside it or in experiments/; such a file may extend another.
    below: the files that extend this one. Raises ConfigError for a circle, and for a file that takes over
    another's name: each experiment has a folder of its own.
    """
    document = read_yaml(path)
    if "extends" not in document:
        return document
    base = document.pop("extends")
    if not isinstance(base, str):
        raise ConfigError("extends: should be a path or a name in experiments/", where=path)
    if "name" not in document:
        raise ConfigError("key 'name' is missing", where=path, todo=f"not the name of {base}: one of its own")
    try:
        other = find(base, "experiments", beside=path.parent)
    except ConfigError as error:
        raise ConfigError(f"extends: {base}: {error.what}", where=path, todo=error.todo) from None
    chain = (*below, path)
    if other in chain:
        names = " -> ".join(file.name for file in (*chain, other))
        raise ConfigError(f"extends: goes in a circle: {names}", where=path)
    inherited = read_extended(other, chain)
    if other.parent != path.parent:
        for key in set(_WITH_PATHS) & set(inherited):
            inherited[key] = _absolute(inherited[key], key, other.parent)
    return merged(inherited, document)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over`; mappings in both are merged, lists are replaced."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def _absolute(value: Any, key: str, folder: Path) -> Any:
    """Make absolute what names a file in the folder, below a key."""
    if isinstance(value, dict):
        return {inner: _absolute(item, str(inner), folder) for inner, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, key, folder) for item in value]
    if not isinstance(value, str) or not value or key in _WORDS:
        return value
    path = folder / value
    return str(path) if path.is_file() or (key in _FOLDERS and path.is_dir()) else value
