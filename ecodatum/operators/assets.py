"""Finds the files that operators need and that do not come with them."""

import os
from collections.abc import Sequence
from pathlib import Path

from ecodatum.errors import AssetError


def find_asset(name: str, *, what: str, todo: str, elsewhere: Sequence[Path] = ()) -> Path:
    """Return the file or folder `name`: as a path, in `$ECODATUM_ASSETS`, or the first of `elsewhere`.

    what: the asset in words, todo: how to get it; both are for the error.
    Raises AssetError, saying where it was looked for, when there is none.
    """
    places = [Path(name).expanduser()]
    if os.environ.get("ECODATUM_ASSETS"):
        places.append(Path(os.environ["ECODATUM_ASSETS"]).expanduser() / name)
    places += elsewhere
    for place in places:
        if place.exists():
            return place
    raise AssetError(
        f"{what} not found",
        where=name,
        todo=f"{todo}; looked for {', '.join(map(str, places))}"
        + ("" if os.environ.get("ECODATUM_ASSETS") else "; ECODATUM_ASSETS names a folder with assets"),
    )
