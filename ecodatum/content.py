"""Finds what the content folders hold, in a checkout as well as in an installed wheel."""

from pathlib import Path
from typing import Any

import yaml

from ecodatum.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def content_root() -> Path:
    """Return the folder that holds baselines/, experiments/, slurm/ and results/.

    In a checkout that is its root; a wheel carries them as `ecodatum/shipped/`.
    """
    packed = _PACKAGE / "shipped"
    return packed if packed.is_dir() else _PACKAGE.parent


def find(name: str, folder: str, *, beside: Path | None = None) -> Path:
    """Return the YAML file that `name` stands for.

    `name` is a path, or the stem of a file in the folder `beside` or in the content folder `folder`.

    Raises ConfigError, listing the names that exist, when there is no such file.
    """
    path = Path(name).expanduser()
    shipped = content_root() / folder
    candidates = [path]
    for base in filter(None, (beside, shipped, content_root())):
        candidates += [base / name, base / f"{name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    known = sorted({p.stem for base in filter(None, (beside, shipped)) for p in base.glob("*.yaml")})
    raise ConfigError(
        f"no such file or name in {folder}/", where=name, todo=f"known names: {', '.join(known) or 'none'}"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; raises ConfigError otherwise."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not YAML: {error}", where=path) from None
    if not isinstance(document, dict):
        raise ConfigError("the top level must be a mapping of keys to values", where=path)
    return document
