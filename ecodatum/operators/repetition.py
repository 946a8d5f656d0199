"""How much of a caption is repetition, by characters and by words.

Source: Data-Juicer 1.6.1, `character_repetition_filter` and `word_repetition_filter`.
"""

from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.operators.caption import CodePoints, Offsets, captions, code_points
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where

#: Code points that are stripped from both ends of a word: punctuation, digits, symbols, white space and
#: emoji, as Data-Juicer lists them (ranges of hexadecimal numbers).
_STRIPPED: Final = """
9-d 20-40 5b-60 7b-7e 81-85 91-93 95-99 9c-9d a1-ab ad-b4 b7-bf d7 f7-f8 131 26a 2ba-2bc 2c8 2cc 2d0 2d8
2da 2dc 3c0 413 60c 647 66a 66c 6e9 93e 940 947 94d 97d 9be e51 2002-2003 2005 2008-200b 2010-2011
2013-2016 2018-201a 201c-2020 2022 2024 2026 202f-2030 2032-2033 2039-203a 203c 203f 2043-2044 2049 20a8
20aa 20ac 2103 2122 2139 2190-2199 21a9-21aa 21d3 2206 2208 2212 221a 221e-221f 223c 2248 2256 2264-2265
2295 22c5 231a-231b 2328 23cf 23e9-23f3 23f8-23fa 24c2 2550 25a0 25aa-25ac 25b2 25b4 25b6-25b7 25ba-25bc
25c0 25c6 25cf 25e6 25fb-25fe 2600-2606 260e 2611 2614-2615 2618 261b 261d 2620 2622-2623 2626 262a
262e-262f 2638-263b 2640 2642 2648-2653 265f-2661 2663 2665-2666 2668 266b 267b 267e-267f 2692-2697 2699
269b-269c 26a0-26a1 26a7 26aa-26ab 26b0-26b1 26bd-26be 26c4-26c5 26c8 26ce-26cf 26d1 26d3-26d4 26e9-26ea
26f0-26f5 26f7-26fa 26fd 2702 2705 2708-270d 270f 2712-2714 2716 271d 2721 2726 2728 2731 2733-2734 2744
2747 274c 274e 2753-2757 2763-2764 2795-2797 27a1 27a4 27a9 27b0 27bf 2800 2934-2935 2b05-2b07 2b1b-2b1c
2b50 2b55 3000-3002 300a-300d 3010-3011 3030 303d 309c 30b7 30c3-30c4 30f3 30fb-30fc 3297 3299 4e00 4e0a
58eb fd3e-fd3f feff ff01 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff3e ff5e fffc-fffd 1f004 1f0cf
1f170-1f171 1f17e-1f17f 1f18e 1f191-1f19a 1f201-1f202 1f21a 1f22f 1f232-1f23a 1f250-1f251 1f300-1f321
1f324-1f393 1f396-1f397 1f399-1f39b 1f39e-1f3f0 1f3f3-1f3f5 1f3f7-1f4fd 1f4ff-1f53d 1f549-1f54e
1f550-1f567 1f56f-1f570 1f573-1f57a 1f587 1f58a-1f58d 1f590 1f595-1f596 1f5a4-1f5a5 1f5a8 1f5b1-1f5b2
1f5bc 1f5c2-1f5c4 1f5d1-1f5d3 1f5dc-1f5de 1f5e1 1f5e3 1f5e8 1f5ef 1f5f3 1f5fa-1f64f 1f680-1f6c5
1f6cb-1f6d2 1f6d5-1f6d9 1f6dc-1f6e5 1f6e9 1f6eb-1f6ec 1f6f0 1f6f3-1f6fc 1f7e0-1f7eb 1f7f0 1f90c-1f93a
1f93c-1f945 1f947-1f9ff 1fa70-1fa7c 1fa80-1fac6 1fac8 1facc-1fadd 1fadf-1faeb 1faef-1fafa
"""

_BETWEEN: Final = 0xD800  # a surrogate, which no text holds, stands between captions
_TOP: Final = 0x20000  # what is stripped or separates lies below

#: An odd number: powers of it, and its inverse, make polynomial hashes modulo 2^64.
_BASE: Final = 0x9E3779B97F4A7C15
_INVERSE: Final = pow(_BASE, -1, 1 << 64)

Hashes = npt.NDArray[np.uint64]


class RepetitionParameters(Parameters):
    """characters, words: how many in a row make the n-gram that is looked for again."""

    characters: Annotated[int, Field(ge=1)] = 10
    words: Annotated[int, Field(ge=1)] = 10


class Repetition(MetadataOperator):
    """The share of a caption's n-grams that occur more than once; 0 for one shorter than an n-gram."""

    name = "repetition"
    version = 1
    parameters_type = RepetitionParameters

    def __init__(self, parameters: RepetitionParameters) -> None:
        super().__init__(parameters)
        self._lengths = parameters

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of characters, only the √U most frequent of the U different n-grams count."""
        return (
            Column("character_ratio", pa.float64(), "share of the repeated character n-grams", 0, 1),
            Column("word_ratio", pa.float64(), "share of the repeated word n-grams", 0, 1),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Count n-grams by their hashes, of all captions at once."""
        text = captions(batch)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        codes, offsets = code_points(text)
        ratios = {
            "character_ratio": _character_ratios(codes.astype(np.uint64), offsets, self._lengths.characters),
            "word_ratio": _word_ratios(*_words(text), self._lengths.words),
        }
        return self.scores(
            {name: pa.array(ratio, mask=missing) for name, ratio in ratios.items()},
            fault_where(missing, "no caption"),
        )


def _character_ratios(codes: Hashes, offsets: Offsets, n: int) -> npt.NDArray[np.float64]:
    """Sum the k highest counts, k = min(⌊√U⌋, n-grams that are repeated), over all n-grams."""
    owners, counts, windows = _repeated(codes, offsets, n)
    repeated = np.bincount(owners, minlength=len(windows))
    surplus = np.bincount(owners, counts - 1, minlength=len(windows))
    kept = np.minimum(np.sqrt(windows - surplus).astype(np.int64), repeated)
    order = np.lexsort((-counts, owners))
    first = np.cumsum(repeated) - repeated
    rank = np.arange(len(owners)) - first[owners[order]]
    counted = order[rank < kept[owners[order]]]
    return _share(np.bincount(owners[counted], counts[counted], minlength=len(windows)), windows)


def _word_ratios(words: Hashes, offsets: Offsets, n: int) -> npt.NDArray[np.float64]:
    """Sum the counts above one over all n-grams."""
    owners, counts, windows = _repeated(words, offsets, n)
    return _share(np.bincount(owners, counts, minlength=len(windows)), windows)


def _share(part: npt.NDArray[Any], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return part / np.maximum(whole, 1)


def _repeated(
    tokens: Hashes, offsets: Offsets, n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (caption, count) of each n-gram that a caption has more than once, and n-grams a caption.

    tokens: of all captions in a row, (total,); offsets: where each caption's start and end, (m + 1,).
    """
    windows = np.maximum(np.diff(offsets) - n + 1, 0)
    if not windows.any():
        return np.empty(0, np.int64), np.empty(0, np.int64), windows
    hashes = np.zeros(len(tokens) - n + 1, np.uint64)
    for step in range(n):
        hashes *= np.uint64(_BASE)
        hashes += tokens[step : step + len(hashes)]
    owners = np.repeat(np.arange(len(windows)), windows)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(windows) - windows, windows)
    hashes = hashes[offsets[owners] + within]
    # Captions share n-grams: salted, equal ones of two captions differ, and few values come twice.
    salted = hashes + owners.astype(np.uint64) * np.uint64(_INVERSE)
    ordered = np.sort(salted)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.empty(0, np.int64), np.empty(0, np.int64), windows
    place = np.minimum(np.searchsorted(twice, salted), len(twice) - 1)
    mine = np.flatnonzero(twice[place] == salted)
    pairs, counts = np.unique(np.stack([owners[mine], place[mine]]), axis=1, return_counts=True)
    again = counts > 1
    return pairs[0, again], counts[again], windows


def _words(text: pa.Array) -> tuple[Hashes, Offsets]:
    """Return a hash for each word, lower-cased and stripped, of all captions, and the captions' offsets.

    Words are separated by space, tab and LF alone; what is empty after stripping is no word.
    """
    joined = chr(_BETWEEN).join(["", *("" if line is None else line for line in text.to_pylist()), ""])
    codes = np.frombuffer(joined.lower().encode("utf-32-le", "surrogatepass"), np.uint32)
    small = np.minimum(codes, _TOP)
    between = codes == _BETWEEN
    apart = between | _SEPARATES[small]
    core = ~apart & ~_IS_STRIPPED[small]
    # A word runs from the first to the last character of its core, stripped ones inside included.
    word = np.cumsum(apart)
    places = np.flatnonzero(core)
    begins = places[np.concatenate(([True], np.diff(word[places]) > 0))] if len(places) else places
    ends = places[np.concatenate((np.diff(word[places]) > 0, [True]))] + 1 if len(places) else places
    caption = np.cumsum(between)[begins] - 1
    offsets = np.concatenate(([0], np.cumsum(np.bincount(caption, minlength=len(text)))))
    return _span_hashes(codes, begins, ends), offsets


def _span_hashes(codes: CodePoints, begins: Offsets, ends: Offsets) -> Hashes:
    """Return the polynomial hash of each span of the code points, wherever it lies."""
    powers = np.full(len(codes) + 1, _BASE, np.uint64)
    inverse = np.full(len(codes) + 1, _INVERSE, np.uint64)
    powers[0] = inverse[0] = 1
    powers, inverse = np.cumprod(powers), np.cumprod(inverse)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(codes * powers[:-1])))
    hashes: Hashes = (sums[ends] - sums[begins]) * inverse[begins]
    return hashes


def _table(ranges: str) -> npt.NDArray[np.bool_]:
    table = np.zeros(_TOP + 1, bool)
    for item in ranges.split():
        low, _, high = item.partition("-")
        table[int(low, 16) : int(high or low, 16) + 1] = True
    return table


_IS_STRIPPED = _table(_STRIPPED)
_SEPARATES = _table("9 a 20")
