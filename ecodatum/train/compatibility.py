"""What open_clip's trainer needs on today's stack; each patch with its reason and the versions it is for."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch


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


@contextlib.contextmanager
def parallel_on_cpu() -> Iterator[None]:
    """Let several processes train on CPUs together.

    open_clip_train 3.3 names the device to torch's DistributedDataParallel, which takes no CPU there.
    """
    original = torch.nn.parallel.DistributedDataParallel

    def parallel(model: torch.nn.Module, device_ids: list[torch.device], **options: Any) -> torch.nn.Module:
        on_cpu = torch.device(device_ids[0]).type == "cpu"
        return original(model, device_ids=None if on_cpu else device_ids, **options)

    torch.nn.parallel.DistributedDataParallel = parallel  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.nn.parallel.DistributedDataParallel = original  # type: ignore[misc]
