"""Reads a `.wandb` file with W&B's own message types; the file is a LevelDB log behind seven bytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_HEADER, _BLOCK, _FIRST_BYTES = 7, 32768, 7
_FULL, _LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a run in their order."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, pending = _FIRST_BYTES, b""
    while position < len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:  # the rest of a block that no header fits into
            position += left
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        pending += data[position + _HEADER : position + _HEADER + size]
        position += _HEADER + size
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # generated
            record.ParseFromString(pending)
            yield record
            pending = b""


def history(path: Path) -> list[dict[str, Any]]:
    """Return what a run logged, a mapping a step."""
    return [_items(r.history.item) for r in records(path) if r.WhichOneof("record_type") == "history"]


def summary(path: Path) -> dict[str, Any]:
    """Return a run's summary."""
    updates = [_items(r.summary.update) for r in records(path) if r.WhichOneof("record_type") == "summary"]
    return {key: value for update in updates for key, value in update.items()}


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
