"""The columnar prediction is that of fastText's own binding."""

import random
import struct
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest

from ecodatum.operators.fasttext_model import FasttextModel
from ecodatum.operators.language import find_model

LATIN = ["the", "a", "of", "photo", "house", "der", "Haus", "für", "mañana", "naïve", "x", "1234", "a.b/c_d"]
OTHER = ["и", "фото", "дом", "写真", "の", "家", "😀👍🏽"]
WORDS = [*LATIN, *OTHER]
BETWEEN = [" ", "  ", "\t", "\v", "\f", "\r", "\0", "\x1c", "\x85", "\u00a0", "\u3000", "\u2028", "\n", ""]
ODD = [
    "</s>",
    "__label__en",
    "__label__zz",
    "__label__",
    "<",
    ">",
    "\u0301",
    "\U0010ffff",
    "\ufffe",
    "e" * 5000,
]


def odd_lines(count: int) -> list[str]:
    chance = random.Random(0)
    lines = ["", " ", "\n", "</s>", "__label__en", *ODD]
    while len(lines) < count:
        words = [chance.choice(ODD if chance.random() < 0.03 else WORDS) for _ in range(chance.randrange(12))]
        between = BETWEEN if chance.random() < 0.3 else [" "]
        lines.append("".join(word + chance.choice(between) for word in words))
    return lines


def check(model: FasttextModel, path: Path, lines: list[str], tolerance: float = 2e-6) -> Any:
    """Compare the lines that are decided; return how many are."""
    predicted = model.predict(pa.array(lines, pa.large_string()))
    binding = fasttext.load_model(str(path))
    names = model.labels.to_pylist()
    for row in np.flatnonzero(~predicted.undecided):
        (label,), (probability,) = binding.predict(lines[row].replace("\n", " "))
        assert names[predicted.labels[row]] == label.removeprefix("__label__"), lines[row]
        assert predicted.probabilities[row] == pytest.approx(probability, rel=tolerance), lines[row]
    return (~predicted.undecided).sum()


def test_the_quantised_model_says_what_fasttext_says_on_odd_lines() -> None:
    path = find_model("lid.176.ftz")
    model = FasttextModel.read(path)
    assert model
    lines = odd_lines(5000)
    ended = sum("</s>" in line.split() for line in lines)
    assert check(model, path, lines) > len(lines) - 3 * ended - 50


def test_a_score_does_not_depend_on_the_lines_beside_it() -> None:
    model = FasttextModel.read(find_model("lid.176.ftz"))
    assert model
    lines = odd_lines(3000)
    whole = model.predict(pa.array(lines, pa.large_string()))
    for start, stop in ((0, 1), (1, 100), (100, 3000)):
        part = model.predict(pa.array(lines, pa.large_string()).slice(start, stop - start))
        assert np.array_equal(part.labels, whole.labels[start:stop])
        scores = part.probabilities.astype(np.float32), whole.probabilities[start:stop].astype(np.float32)
        assert np.array_equal(*scores)


def test_no_lines_at_all() -> None:
    model = FasttextModel.read(find_model("lid.176.ftz"))
    assert model
    assert len(model.predict(pa.array([], pa.large_string())).labels) == 0


def write_model(path: Path, *, labels: int = 7, loss: int = 1, word_ngrams: int = 1) -> Path:
    """Write a model whose matrices are not quantised and whose buckets are not pruned."""
    chance = np.random.default_rng(0)
    words, dim, buckets = ["</s>", "the", "фото", "家"], 6, 500
    entries = [(word, 100, 0) for word in words]
    entries += [(f"__label__{number}", 90 - 9 * number, 1) for number in range(labels)]
    arguments = (dim, 5, 5, 1, 5, word_ngrams, loss, 3, buckets, 2, 4, 100, 1e-4)
    data = struct.pack("<ii12id", 793712314, 12, *arguments)
    data += struct.pack("<iiiqq", len(entries), len(words), labels, 1000, -1)
    for text, count, kind in entries:
        data += text.encode() + b"\0" + struct.pack("<qb", count, kind)
    for rows in (len(words) + buckets, labels):
        matrix = chance.normal(0, 2, (rows, dim)).astype(np.float32)
        data += b"\0" + struct.pack("<qq", rows, dim) + matrix.tobytes()
    path.write_bytes(data)
    return path


def test_a_full_model_says_what_fasttext_says(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.bin")
    model = FasttextModel.read(path)
    assert model
    assert check(model, path, odd_lines(500), tolerance=1e-4) > 400


@pytest.mark.parametrize("other", [{"loss": 3}, {"word_ngrams": 2}])
def test_another_kind_of_model_is_left_to_fasttext(tmp_path: Path, other: dict[str, int]) -> None:
    assert FasttextModel.read(write_model(tmp_path / "model.bin", **other)) is None


def test_a_file_that_ends_early_is_told(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.bin")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends early"):
        FasttextModel.read(path)
