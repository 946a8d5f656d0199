"""Caption length in fastText's tokens."""

import numpy as np
import pyarrow as pa

from ecodatum.operators.caption import captions
from ecodatum.operators.operator import Column, MetadataOperator, Scores, fault_where

_LINE_FEED = 0x0A
_SEPARATES = np.isin(np.arange(256), np.frombuffer(b" \n\r\t\v\f\0", np.uint8))


class Tokens(MetadataOperator):
    """How many tokens fastText sees in a caption."""

    name = "tokens"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """As `fasttext.tokenize` counts (DataComp, baselines/apply_filter.py, caption_filter)."""
        meaning = "runs of bytes other than ASCII white space and NUL, and one for each line feed"
        return (Column("tokens", pa.int32(), meaning, 0),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Count; a missing caption has no tokens."""
        text = captions(batch)
        start = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        data = text.buffers()[2]
        raw = np.frombuffer(data, np.uint8)[start[0] : start[-1]] if data else np.empty(0, np.uint8)
        offsets = start - start[0]
        separates = _SEPARATES[raw]
        begins = ~separates
        begins[1:] &= separates[:-1]
        firsts = offsets[:-1][np.diff(offsets) > 0]
        begins[firsts] = ~separates[firsts]
        # A line feed is fastText's end-of-sentence token.
        before = np.concatenate(([0], np.cumsum(begins | (raw == _LINE_FEED))))
        missing = text.is_null().to_numpy(zero_copy_only=False)
        counts = np.diff(before[offsets]).astype(np.int32)
        return self.scores({"tokens": pa.array(counts, mask=missing)}, fault_where(missing, "no caption"))
