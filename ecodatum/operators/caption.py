"""Caption length, and the view of a caption column as code points that text operators share."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.errors import PoolError
from ecodatum.operators.operator import Column, MetadataOperator, Scores, fault_where

_LAST_SPACE = 0x3000  # no code point above it is white space
_IS_SPACE = np.array([chr(code).isspace() for code in range(_LAST_SPACE + 1)])

CodePoints = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]


class Caption(MetadataOperator):
    """How long a caption is."""

    name = "caption"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Lengths as DataComp's basic filter counts them: `len(text)` and `len(text.split())`."""
        return (
            Column("characters", pa.int32(), "Unicode code points", 0),
            Column("words", pa.int32(), "runs of what Unicode does not call white space", 0),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Count; a missing caption has no length."""
        text = captions(batch)
        codes, offsets = code_points(text)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        counts = {"characters": np.diff(offsets), "words": count_words(codes, offsets)}
        return self.scores(
            {name: pa.array(count.astype(np.int32), mask=missing) for name, count in counts.items()},
            fault_where(missing, "no caption"),
        )


def captions(batch: pa.RecordBatch) -> pa.Array:
    """Return the caption column as large strings, (n,); one that is not UTF-8 counts as missing.

    Raises PoolError when the column holds no text.
    """
    text = batch.column("text")
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
        raise PoolError(f"the metadata column text holds {text.type}, not text")
    text = text.cast(pa.large_string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([_decoded(raw) for raw in text.cast(pa.large_binary()).to_pylist()], text.type)
    return text


def _decoded(raw: bytes | None) -> str | None:
    try:
        return raw.decode("utf-8") if raw is not None else None
    except UnicodeDecodeError:
        return None


def code_points(text: pa.Array) -> tuple[CodePoints, Offsets]:
    """Return all captions' code points in a row, (total,) uint32, and where each starts and ends, (n + 1,).

    text: large strings, (n,); a null counts as empty.
    """
    start = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    raw = np.frombuffer(data, np.uint8)[start[0] : start[-1]] if data else np.empty(0, np.uint8)
    codes = np.frombuffer(raw.tobytes().decode("utf-8").encode("utf-32-le"), np.uint32)
    # Counted without regard to nulls, below which there may be bytes.
    lines = pa.Array.from_buffers(text.type, len(text), [None, *text.buffers()[1:]], offset=text.offset)
    return codes, np.concatenate((np.zeros(1, np.int64), np.cumsum(pc.utf8_length(lines).to_numpy())))


def count_words(codes: CodePoints, offsets: Offsets) -> npt.NDArray[np.int64]:
    """Return the number of words of each caption, (n,), exactly as `len(text.split())` has it."""
    space = _IS_SPACE[np.minimum(codes, _LAST_SPACE)] & (codes <= _LAST_SPACE)
    begins = ~space
    begins[1:] &= space[:-1]
    firsts = offsets[:-1][np.diff(offsets) > 0]
    begins[firsts] = ~space[firsts]
    return np.diff(np.searchsorted(np.flatnonzero(begins), offsets))
