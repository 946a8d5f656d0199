"""What open_clip's trainer needs on today's stack; each patch with its reason and the versions it is for."""

from collections.abc import Iterable, Iterator
from typing import Any


def without_end_markers(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the members of tars without the empty items that mark a tar's end.

    webdataset above 0.2.86 puts `{}` after each tar; open_clip_train 3.3 looks up `fname` in every item
    and dies of a KeyError.
    """
    return (item for item in items if item)


def tar_members(original: Any) -> Any:
    """Return a stand-in for webdataset's `tar_file_expander` that leaves the end markers out."""

    def expand(*arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        return without_end_markers(original(*arguments, **options))

    return expand
