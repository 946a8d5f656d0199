"""Hashes of a caption: one that only equal captions share, and one that similar captions nearly share."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.operators.caption import CodePoints, Offsets, captions, code_points
from ecodatum.operators.operator import Column, MetadataOperator, Scores, fault_where
from ecodatum.splitmix import STEP, mixed

#: Characters of a shingle, as Data-Juicer 1.6.1 has them by default (document_simhash_deduplicator).
_SHINGLE: Final = 6

#: A counter of 16 bits, four to a word, holds this many votes.
_MOST_SHINGLES: Final = 2**16 - 1
_LANES: Final = np.uint64(0x0001_0001_0001_0001)
_LANE_BITS: Final = 16

_LAST: Final = 2**64 - 1

Hashes = npt.NDArray[np.uint64]


class CaptionHash(MetadataOperator):
    """Hashes of a caption in lower case and NFKC form, with runs of white space as one space, trimmed."""

    name = "caption_hash"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """`exact` is as good as the text itself; `simhash` is for a Hamming distance of about 4."""
        return (
            Column("exact", pa.uint64(), "the same for the same text, and only for that", 0, _LAST),
            Column("simhash", pa.uint64(), "Charikar's SimHash over 6 characters in a row", 0, _LAST),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Hash all captions of a batch at once; a missing one has no hash."""
        text = captions(batch)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        codes, offsets = code_points(normalised(text))
        hashes = {"exact": exact_hashes(codes, offsets), "simhash": simhashes(codes, offsets)}
        return self.scores(
            {name: pa.array(values, mask=missing) for name, values in hashes.items()},
            fault_where(missing, "no caption"),
        )


def normalised(text: pa.Array) -> pa.Array:
    """Return captions, (n,) strings, without what looks alike or is not seen: form, case, white space."""
    text = pc.utf8_lower(pc.utf8_normalize(text, "NFKC"))
    spaced = pc.replace_substring_regex(text, pattern=r"[\s\p{Z}]+", replacement=" ")
    trimmed: pa.Array = pc.utf8_trim_whitespace(spaced).cast(pa.large_string())
    return trimmed


def exact_hashes(codes: CodePoints, offsets: Offsets) -> Hashes:
    """Return a hash of each text, (n,): the sum of what each code point at its place is mixed to.

    codes, offsets: as `code_points` gives them. Two of a billion texts collide with a chance of 3 %.
    """
    places = np.arange(len(codes)) - np.repeat(offsets[:-1], np.diff(offsets))
    return mixed(_sums(mixed(mixed(codes + np.uint64(1)) + places.astype(np.uint64)), offsets))


def simhashes(codes: CodePoints, offsets: Offsets) -> Hashes:
    """Return the SimHash of each text, (n,): each bit is what most shingles' hashes have there.

    A text shorter than a shingle has its exact hash; of one longer than 65,540 characters the first
    count. Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms".
    """
    lengths = np.diff(offsets)
    windows = np.clip(lengths - _SHINGLE + 1, 0, _MOST_SHINGLES)
    found = exact_hashes(codes, offsets)
    if not windows.any():
        return found
    rolled = np.zeros(len(codes) - _SHINGLE + 1, np.uint64)
    for step in range(_SHINGLE):
        rolled *= STEP
        rolled += codes[step : step + len(rolled)]
    ends = np.concatenate(([0], np.cumsum(windows)))
    shingles = mixed(rolled[np.repeat(offsets[:-1] - ends[:-1], windows) + np.arange(ends[-1])])
    found[windows > 0] = 0
    for bit in range(_LANE_BITS):
        votes = _sums((shingles >> np.uint64(bit)) & _LANES, ends)
        for lane in range(0, 64, _LANE_BITS):
            ones = (votes >> np.uint64(lane)) & np.uint64(_MOST_SHINGLES)
            found |= (2 * ones > windows.astype(np.uint64)).astype(np.uint64) << np.uint64(lane + bit)
    return found


def _sums(values: Hashes, offsets: Offsets) -> Hashes:
    """Return the sum of each span of the values, modulo 2^64."""
    before = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)))
    sums: Hashes = before[offsets[1:]] - before[offsets[:-1]]
    return sums
