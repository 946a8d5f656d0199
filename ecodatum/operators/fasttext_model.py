"""fastText's hierarchical softmax over a column of lines: what its `predict` gives, many lines at once.

The sum of a line's input vectors is the sum of its words', and a crawl repeats its words: each distinct
word of a batch is hashed and summed once. Sums are rounded in another order than in fastText, so that a line
whose two best labels are close is said to be undecided, and is for fastText itself.
Source: fastText (Joulin et al. 2016, arXiv 1607.01759 and 1612.03651), its file format 12.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_MAGIC: Final = 793712314
_VERSION: Final = 12
_SUPERVISED, _HIERARCHICAL = 3, 1
_LABEL: Final = "__label__"
_CENTRES: Final = 256

_FNV_BASIS: Final = np.uint32(2166136261)
_FNV_PRIME: Final = np.uint32(16777619)

#: What fastText adds before it takes a logarithm, and an exponent beyond which that is all that counts.
_EPSILON: Final = np.float32(1e-5)
_STEEPEST: Final = np.float32(80)
#: A label must be better than the second by this factor: a hundred times what rounding does.
_DECIDED: Final = np.float32(1.001)
#: What probabilities are counted in, so that the least are not denormal numbers, which are slow.
_WHOLE: Final = np.float32(2.0**96)
_ROWS_AT_ONCE: Final = 2048
_BLOCK: Final = 64

_BLANKS: Final = np.arange(256, dtype=np.uint8)
_BLANKS[[0, 10]] = 32  # fastText's other separators are arrow's


class Prediction(NamedTuple):
    """The best label's number and probability for each line, and which lines are undecided; (n,) each."""

    labels: Integers
    probabilities: Floats
    undecided: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FasttextModel:
    """A supervised model with hierarchical softmax and without word n-grams, such as lid.176.

    vocabulary: words, then labels with their prefix; `words` of the former. places: (buckets,) int32, the
    row of each bucket among the n-grams, or -1; empty where each bucket has its row. vectors: (words +
    n-grams, dim). nodes: (labels - 1, dim). children: (labels - 1, 2), from the leaves up; labels come first.
    """

    vocabulary: pa.Array
    words: int
    lengths: range
    buckets: int
    places: npt.NDArray[np.int32]
    vectors: Floats
    nodes: Floats
    children: Integers

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Map a model's file; None for a model of another kind. Raises ValueError for one that ends early."""
        with path.open("rb") as file:
            data = _Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if data.unpack("<ii") != (_MAGIC, _VERSION):
            return None
        dim, _, _, _, _, word_ngrams, loss, kind, buckets, least, most, _, _ = data.unpack("<12id")
        size, words, labels, _, pruned = data.unpack("<iiiqq")
        if (
            (word_ngrams, loss, kind) != (1, _HIERARCHICAL, _SUPERVISED)
            or not 2 <= least <= most
            or not pruned
        ):
            return None
        vocabulary, counts = data.entries(size)
        places = np.empty(0, np.int32)
        if pruned > 0:
            pairs = data.array(np.int32, 2 * pruned).reshape(-1, 2)
            places = np.full(buckets, -1, np.int32)
            places[pairs[:, 0]] = pairs[:, 1]
        vectors = data.quantised() if data.unpack("<?")[0] else data.dense()
        if data.unpack("<?")[0]:  # the output is quantised too
            return None
        nodes = data.dense()
        if labels < 2 or len(nodes) < labels or vectors.shape[1] != dim or nodes.shape[1] != dim:
            raise ValueError("the parts of the model do not fit together")
        tree = _huffman_tree(counts[words:])
        lengths = range(least, most + 1)
        return cls(vocabulary, words, lengths, buckets, places, vectors, nodes[: labels - 1], tree)

    @property
    def labels(self) -> pa.Array:
        """The labels without their prefix."""
        return pc.utf8_slice_codeunits(self.vocabulary[self.words :], len(_LABEL))

    def predict(self, lines: pa.LargeStringArray) -> Prediction:
        """Predict for lines of which LF separates words like any other blank; a null is an empty line."""
        tokens = pc.ascii_split_whitespace(_with_blanks(lines))
        coded = tokens.flatten().dictionary_encode()
        sums, counts, ends = self._sum_words(coded.dictionary)
        words = coded.indices.to_numpy()
        starts = _offsets(pc.fill_null(pc.list_value_length(tokens), 0).to_numpy())
        hidden = _segment_sums(sums, words, starts) + self.vectors[0]  # each line ends with `</s>`
        hidden /= np.diff(_offsets(counts[words])[starts])[:, None] + np.float32(1)
        labels, best, second = self._descend(hidden)
        undecided = ~(best > second * _DECIDED) | (np.diff(_offsets(ends[words])[starts]) > 0)
        return Prediction(labels, best, undecided)

    def _sum_words(self, words: pa.Array) -> tuple[Floats, Integers, npt.NDArray[np.bool_]]:
        """Return for each distinct word the sum of its vectors, (k, dim), how many, and if it is `</s>`."""
        known = pc.fill_null(pc.index_in(words, self.vocabulary), -1).to_numpy()
        is_label = (known >= self.words) | pc.starts_with(words, _LABEL).to_numpy(zero_copy_only=False)
        sums, counts = (
            np.zeros((len(words), self.vectors.shape[1]), np.float32),
            np.zeros(len(words), np.int64),
        )
        own = np.flatnonzero((known >= 0) & ~is_label)
        sums[own], counts[own] = self.vectors[known[own]], 1
        mute = is_label | pc.equal(words, "").to_numpy(zero_copy_only=False)
        for owners, buckets in _hashed_ngrams(words, self.lengths, self.buckets):
            kept = ~mute[owners]
            rows = self.places[buckets] if len(self.places) else buckets.astype(np.int64)
            kept &= rows >= 0
            found = np.bincount(owners[kept], minlength=len(words))
            sums += _segment_sums(self.vectors[self.words :], rows[kept], _offsets(found))
            counts += found
        return sums, counts, known == 0

    def _descend(self, hidden: Floats) -> tuple[Integers, Floats, Floats]:
        """Return for each line its best label, and the probabilities of it and of the second best."""
        count, rows = len(self.nodes) + 1, len(hidden)
        labels = np.empty(rows, np.int64)
        best, second = np.empty(rows, np.float32), np.empty(rows, np.float32)
        chances = np.empty((2 * count - 1, _ROWS_AT_ONCE), np.float32)
        numbers = np.arange(count, dtype=np.uint32)[:, None]
        spare = np.uint32((1 << count.bit_length()) - 1)
        for start in range(0, rows, _ROWS_AT_ONCE):
            part = slice(start, min(start + _ROWS_AT_ONCE, rows))
            right = self._against(hidden[part])
            np.minimum(right, _STEEPEST, out=right)
            np.exp(right, out=right)
            right += 1
            np.reciprocal(right, out=right)
            left = (1 + _EPSILON) - right
            right += _EPSILON
            chance = chances[:, : right.shape[1]]
            chance[-1] = _WHOLE
            for node in range(count - 2, -1, -1):
                first, last = self.children[node]
                np.multiply(chance[count + node], left[node], out=chance[first])
                np.multiply(chance[count + node], right[node], out=chance[last])
            leaves = chance[:count]
            # Positive floats order as the integers of their bits: with the label's number in the lowest
            # ones, the greatest is found at once for all lines, and differs by much less than decides.
            found = ((leaves.view(np.uint32) & ~spare) | numbers).max(axis=0) & spare
            place = found, np.arange(leaves.shape[1])
            labels[part], best[part] = found, leaves[place]
            leaves[place] = 0
            second[part] = leaves.max(axis=0)
        return labels, best / _WHOLE, second / _WHOLE

    def _against(self, hidden: Floats) -> Floats:
        """Return minus each node's product with each line, (nodes, lines).

        In double precision, so that a line's score does not depend on those beside it, and in blocks that
        BLAS takes for too small to wake its threads, which would then burn time waiting.
        """
        blocks = -(-len(hidden) // _BLOCK)
        padded = np.zeros((blocks * _BLOCK, hidden.shape[1]))
        np.negative(hidden, out=padded[: len(hidden)])
        products = self.nodes.astype(np.float64) @ padded.reshape(blocks, _BLOCK, -1).transpose(0, 2, 1)
        return products.transpose(1, 0, 2).astype(np.float32).reshape(len(self.nodes), -1)[:, : len(hidden)]


def _hashed_ngrams(
    words: pa.Array, lengths: range, buckets: int
) -> Iterator[tuple[Integers, npt.NDArray[np.uint32]]]:
    """Yield for each length the words and the buckets of all n-grams of `<word>`, in the words' order.

    fastText's n-grams are of characters, hashed by FNV-1a over their bytes, which it takes as signed.
    """
    opening, closing, nothing = (pa.scalar(text, words.type) for text in ("<", ">", ""))
    framed = pc.binary_join_element_wise(opening, words, closing, nothing)
    data, start = _bytes_of(framed)
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    begins = np.flatnonzero((data & 0xC0) != 0x80)
    widths = np.diff(begins, append=len(data))
    per_word = np.diff(np.searchsorted(begins, start))
    owners = np.repeat(np.arange(len(words)), per_word)
    hashes = np.full(len(begins), _FNV_BASIS, np.uint32)
    wide = [np.flatnonzero(widths > byte) for byte in range(1, 4)]
    for length in range(1, lengths.stop):
        # The hash of the n-gram at each character takes in the character `length - 1` further on.
        last = length - 1
        hashes = hashes[: len(begins) - last]
        hashes = (hashes ^ signed[begins[last:]]) * _FNV_PRIME
        for byte, places in enumerate(wide, 1):
            longer = places[np.searchsorted(places, last) :]
            hashes[longer - last] = (hashes[longer - last] ^ signed[begins[longer] + byte]) * _FNV_PRIME
        if length in lengths:
            whole = owners[: len(hashes)] == owners[last:]
            yield owners[: len(hashes)][whole], hashes[whole] % np.uint32(buckets)


def _segment_sums(vectors: Floats, rows: npt.NDArray[Any], offsets: Integers) -> Floats:
    """Return the sums of vectors[rows] between the offsets, (m + 1,); (m, dim), zero where there are none."""
    sums = np.zeros((len(offsets) - 1, vectors.shape[1]), np.float32)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        sums[filled] = np.add.reduceat(vectors[rows], offsets[filled], axis=0)
    return sums


def _offsets(counts: npt.NDArray[Any]) -> Integers:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def _bytes_of(strings: pa.LargeStringArray) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Return the bytes of all strings in a row, and the offsets, (n + 1,), at which each begins."""
    _, offsets, data = strings.buffers()
    start = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    raw = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    return raw[start[0] : start[-1]], start - start[0]


def _with_blanks(lines: pa.LargeStringArray) -> pa.LargeStringArray:
    """Replace what separates words in fastText, and not for arrow, by blanks."""
    data, start = _bytes_of(lines)
    buffers = [None, pa.py_buffer(start), pa.py_buffer(_BLANKS[data])]
    return pa.Array.from_buffers(pa.large_string(), len(lines), buffers)


def _huffman_tree(counts: Integers) -> Integers:
    """Return the two children of each inner node; labels come with descending counts."""
    leaves = len(counts)
    weights = np.concatenate((counts, np.full(leaves - 1, 10**15)))
    children = np.empty((leaves - 1, 2), np.int64)
    leaf, node = leaves - 1, leaves
    for inner in range(leaves - 1):
        for side in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                children[inner, side] = leaf
                leaf -= 1
            else:
                children[inner, side] = node
                node += 1
        weights[leaves + inner] = weights[children[inner]].sum()
    return children


class _Reader:
    """Reads a model's file from its begin to its end; arrays are views of it."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._place = data, 0

    def unpack(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        return struct.unpack(form, self.array(np.uint8, size).tobytes())

    def array(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        start = self._place
        self._place += count * np.dtype(dtype).itemsize
        if self._place > len(self._data):
            raise ValueError("the file ends early")
        return np.frombuffer(self._data, dtype, count, start)

    def entries(self, size: int) -> tuple[pa.Array, Integers]:
        """Read words and labels, each ended by a zero byte, with their counts."""
        texts, counts = [], np.empty(size, np.int64)
        for number in range(size):
            end = self._data.find(b"\0", self._place)
            texts.append(self.array(np.uint8, end - self._place).tobytes())
            _, counts[number], _ = self.unpack("<sqb")
        return pa.array(texts, pa.large_binary()).cast(pa.large_string()), counts

    def dense(self) -> Floats:
        rows, columns = self.unpack("<qq")
        return self.array(np.float32, rows * columns).reshape(rows, columns)

    def quantised(self) -> Floats:
        """Read a product-quantised matrix, whose rows' norms may be quantised apart, and spread it out."""
        norms_apart, rows, _, size = self.unpack("<?qqi")
        codes = self.array(np.uint8, size).reshape(rows, -1)
        matrix = self._decoded(codes)
        if norms_apart:
            matrix *= self._decoded(self.array(np.uint8, rows).reshape(rows, 1))
        return matrix

    def _decoded(self, codes: npt.NDArray[np.uint8]) -> Floats:
        """Read the centres of each code's place, and put them there; the last place may be narrower."""
        dim, _, width, _ = self.unpack("<iiii")
        centres = self.array(np.float32, dim * _CENTRES)
        starts = range(0, dim * _CENTRES, width * _CENTRES)
        places = (centres[start : start + width * _CENTRES].reshape(_CENTRES, -1) for start in starts)
        return np.concatenate([place[code] for place, code in zip(places, codes.T, strict=True)], axis=1)
