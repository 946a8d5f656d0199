"""Makes metadata in CommonPool's layout, with captions as varied as a crawl's, at any number of rows.

Run it as `python tests/benchmarks/synthetic_pool.py FOLDER --rows 1000000 --parts 2`. Words follow Zipf's
law over several languages, with a tail of names, numbers and file names that occur once, so that neither
remembering words nor captions is easier than in a crawl. English's own vocabulary is WordNet's where
Debian's wordnet-base is installed.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecodatum.pool import uids as uid_arrays

_WORDNET = Path("/usr/share/wordnet")
_MEAN_WORDS = 9
_COMMON = {
    "en": "the of and in a to for with on by from at is new photo image stock free vector black white home",
    "de": "der die das und in von mit für auf ein eine zu im den bei ist nicht aus neue Bild Haus kaufen",
    "fr": "le la les de des et en un une pour dans sur avec par est au aux photo maison nouvelle prix du",
    "es": "el la los las de del y en un una para con por es al se su foto casa nueva precio comprar más",
    "ru": "и в на с для по из от как фото купить цена дом новый год что это не все или до москва день",
    "ja": "写真 の 無料 家 新しい 画像 東京 販売 商品 日本 人気 黒 白 セット ケース 送料 花 犬 猫 夏",
    "pt": "o a os as de do da e em um uma para com por no na foto casa nova preço comprar mais não",
}
_SHARES = {"en": 0.55, "de": 0.09, "fr": 0.08, "es": 0.09, "ru": 0.08, "ja": 0.06, "pt": 0.05}


def write_part(path: Path, rows: int, seed: int) -> None:
    """Write one metadata parquet of `rows` rows; the same seed gives the same rows."""
    chance = np.random.default_rng(seed)
    high, low = chance.integers(0, 2**64, (2, rows), dtype=np.uint64)
    hexes = uid_arrays.to_hex(uid_arrays.from_words(high, low))
    width = chance.integers(60, 2400, rows)
    height = np.maximum(1, (width * chance.lognormal(-0.2, 0.45, rows)).astype(np.int64))
    scores = {
        f"clip_{model}_similarity_score": chance.normal(mean, 0.05, rows).astype(np.float32)
        for model, mean in (("b32", 0.24), ("l14", 0.2))
    }
    table = {
        "uid": hexes,
        "url": pc.binary_join_element_wise("https://example.org/", hexes, ".jpg", ""),
        "text": captions(rows, chance),
        "original_width": width,
        "original_height": height,
        **scores,
        "sha256": pc.binary_join_element_wise(hexes, hexes, ""),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)


def captions(rows: int, chance: np.random.Generator) -> pa.Array:
    """Return `rows` captions, 3 to 25 words each, of one language each."""
    lengths = np.clip(chance.poisson(_MEAN_WORDS, rows), 3, 25)
    language = chance.choice(len(_SHARES), rows, p=list(_SHARES.values()))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    of_word = np.repeat(language, lengths)
    words = np.empty(offsets[-1], np.int64)
    start, vocabulary = 0, []
    for number, name in enumerate(_SHARES):
        own = _vocabulary(name)
        mine = np.flatnonzero(of_word == number)
        words[mine] = start + _zipf(len(own), len(mine), chance)
        vocabulary += own
        start += len(own)
    rare = np.flatnonzero(chance.random(len(words)) < 0.05)
    numbers = chance.integers(0, 10_000_000, len(rare))
    words[rare] = start + np.arange(len(rare))
    every = pa.concat_arrays([pa.array(vocabulary), pa.array(numbers).cast(pa.string())])
    lists = pa.ListArray.from_arrays(offsets.astype(np.int32), every.take(pa.array(words)))
    return pc.binary_join(lists, " ")


def _zipf(size: int, count: int, chance: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw ranks of a vocabulary, the first ones most often, by inverting Zipf's cumulative law."""
    drawn: npt.NDArray[np.int64] = np.minimum((size + 1.0) ** chance.random(count) - 1, size - 1).astype(int)
    return drawn


def _vocabulary(language: str) -> list[str]:
    common = _COMMON[language].split()
    index = _WORDNET / "index.noun"
    if language == "en" and index.is_file():
        lines = index.read_text(encoding="utf-8").splitlines()
        nouns = [line.split(maxsplit=1)[0] for line in lines if not line.startswith(" ")]
        chosen = np.random.default_rng(0).permutation([noun for noun in nouns if "_" not in noun])
        return [*common, *map(str, chosen[:40_000])]
    endings = ["", *(first + second for first in "aeionrst" for second in "aeiouklm")]
    return common + [word + ending for ending in endings[1:] for word in common]


def write_pool(folder: Path, rows: int, parts: int) -> Path:
    """Write a pool of `rows` rows in `parts` parts, without images; parts that are there are kept."""
    for number, share in enumerate(np.diff(np.linspace(0, rows, parts + 1).astype(int))):
        path = folder / "metadata" / f"{number:032x}.parquet"
        if not path.is_file() or _rows(path) != share:
            write_part(path, int(share), seed=number)
    return folder


def _rows(path: Path) -> Any:
    return pq.ParquetFile(path).metadata.num_rows


def main() -> None:
    """Write a pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=2)
    given = parser.parse_args()
    print(write_pool(given.folder, given.rows, given.parts))


if __name__ == "__main__":
    main()
