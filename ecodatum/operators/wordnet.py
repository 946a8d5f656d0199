"""Captions that name a thing of ImageNet-21k, by WordNet 3.0."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ecodatum.errors import AssetError
from ecodatum.operators.assets import find_asset
from ecodatum.operators.caption import captions
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where

#: Parts of speech in the order in which NLTK asks them, with the suffixes that its morphy exchanges.
_SUFFIXES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
_FILES: Final = tuple(name for part in _SUFFIXES for name in (f"index.{part}", f"{part}.exc"))

#: Words whose answer is remembered; more would only cost memory.
_REMEMBERED = 1_000_000


class WordnetParameters(Parameters):
    """wordnet: the folder with WordNet 3.0's `index.*` and `*.exc`. ids: the list of ImageNet-21k ids.

    repeat_suffixes: exchange suffixes again while no form is known. NLTK 3.8.1, which DataComp pins,
    does so; later versions exchange them once.
    """

    wordnet: str = "wordnet"
    ids: str = "imagenet21k_wordnet_ids.txt"
    repeat_suffixes: bool = True


class Wordnet(MetadataOperator):
    """Whether a word of the caption is a thing of ImageNet-21k."""

    name = "wordnet"
    version = 1
    parameters_type = WordnetParameters

    def __init__(self, parameters: WordnetParameters) -> None:
        super().__init__(parameters)
        self._repeat = parameters.repeat_suffixes
        self._folder = _find_wordnet(parameters.wordnet)
        self._ids = find_asset(parameters.ids, what="list of ImageNet-21k ids")
        self._known: dict[str, bool] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        """DataComp's text-based filter (baselines/apply_filter.py, does_contain_text_entity)."""
        meaning = "a word's first synset has its offset among the ids, whatever its part of speech"
        return (Column("imagenet21k", pa.bool_(), meaning),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """WordNet's files, and the ids."""
        return {"wordnet": tuple(self._folder / name for name in _FILES), "ids": (self._ids,)}

    @cached_property
    def _lexicon(self) -> "Lexicon":
        return Lexicon.read(self._folder, read_ids(self._ids), repeat=self._repeat)

    def prepare(self, device: str) -> None:
        """Read WordNet and the ids."""
        _ = self._lexicon

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Look up each distinct word once; white space is Unicode's, as for `str.split`."""
        text = captions(batch)
        words = pc.utf8_split_whitespace(text)
        coded = words.flatten().dictionary_encode()
        named = self._are_named(coded.dictionary.to_pylist())
        before = np.concatenate(([0], np.cumsum(named[coded.indices.to_numpy()])))
        lengths = pc.fill_null(pc.list_value_length(words), 0).to_numpy()
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        missing = text.is_null().to_numpy(zero_copy_only=False)
        found = np.diff(before[offsets]) > 0
        return self.scores({"imagenet21k": pa.array(found, mask=missing)}, fault_where(missing, "no caption"))

    def _are_named(self, words: list[str]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Return which words, each given once, are things of ImageNet-21k; (n,) bool."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        known, lexicon = self._known, self._lexicon
        for word in set(words).difference(known):
            known[word] = lexicon.names_a_thing(word)
        return np.fromiter(map(known.__getitem__, words), np.bool_, len(words))


@dataclass(frozen=True)
class _PartOfSpeech:
    """Lemmas with whether their first synset is among the ids, irregular forms, and suffixes."""

    lemmas: Mapping[str, bool]
    irregular: Mapping[str, tuple[str, ...]]
    suffixes: tuple[tuple[str, str], ...]

    def look_up(self, word: str, *, repeat: bool) -> bool | None:
        """Return whether the first synset of the word is among the ids; None if it has no synset."""
        found = self.lemmas.get(word)
        if found is not None:
            return found
        if word in self.irregular:
            return self._first(self.irregular[word])
        forms = list(self._exchanged([word]))
        found = self._first(forms)
        while repeat and found is None and forms:
            forms = list(self._exchanged(forms))
            found = self._first(forms)
        return found

    def _first(self, forms: "list[str] | tuple[str, ...]") -> bool | None:
        return next((self.lemmas[form] for form in forms if form in self.lemmas), None)

    def _exchanged(self, forms: list[str]) -> Iterator[str]:
        for form in forms:
            for old, new in self.suffixes:
                if form.endswith(old):
                    yield form[: -len(old)] + new


class Lexicon:
    """WordNet as NLTK's `wordnet.synsets(word)[0]` sees it, reduced to membership in a list of ids.

    The part of speech counts for the order of the synsets only, not for the ids: DataComp compares
    offsets, so that a verb whose offset equals a noun's in the list is taken for it.
    """

    def __init__(self, parts: tuple[_PartOfSpeech, ...], *, repeat: bool) -> None:
        self._parts, self._repeat = parts, repeat
        self._entries = frozenset(word for part in parts for word in (*part.lemmas, *part.irregular))
        self._endings = frozenset(old[-1] for part in parts for old, _ in part.suffixes)

    @classmethod
    def read(cls, folder: Path, ids: frozenset[int], *, repeat: bool) -> "Lexicon":
        """Read WordNet's files; raises AssetError, naming the file, for one that is not WordNet's."""
        parts = []
        for part, suffixes in _SUFFIXES.items():
            lemmas = _read_index(folder / f"index.{part}", ids)
            parts.append(_PartOfSpeech(lemmas, _read_exceptions(folder / f"{part}.exc"), suffixes))
        return cls(tuple(parts), repeat=repeat)

    def names_a_thing(self, word: str) -> bool:
        """Return whether the first synset of the word, as it stands in a caption, is among the ids."""
        word = word.lower()
        if word not in self._entries and word[-1:] not in self._endings:
            return False  # most words of a crawl
        for part in self._parts:
            found = part.look_up(word, repeat=self._repeat)
            if found is not None:
                return found
        return False


def read_ids(path: Path) -> frozenset[int]:
    """Return the offsets of a list of WordNet ids, a letter and a number a line; raises AssetError."""
    try:
        return frozenset(int(line.strip()[1:]) for line in path.read_text(encoding="utf-8").splitlines())
    except (ValueError, OSError) as error:
        raise AssetError(f"not a list of WordNet ids: {error}", where=path) from error


def _read_index(path: Path, ids: frozenset[int]) -> dict[str, bool]:
    """Read `lemma pos synsets …`, which ends with as many offsets, the most frequent sense first."""
    lemmas = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith(" "):  # the licence is indented
                    fields = line.split()
                    lemmas[fields[0]] = int(fields[-int(fields[2])]) in ids
    except (ValueError, IndexError, OSError) as error:
        raise AssetError(f"not an index of WordNet: {error}", where=path) from error
    return lemmas


def _read_exceptions(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, OSError) as error:
        raise AssetError(f"not a list of WordNet's irregular forms: {error}", where=path) from error
    return {fields[0]: tuple(fields[1:]) for fields in lines if fields}


def _find_wordnet(name: str) -> Path:
    folder = find_asset(name, what="WordNet 3.0")
    for file in _FILES:
        if not (folder / file).is_file():
            todo = "run: ecodatum assets fetch wordnet, or install Debian's wordnet-base"
            raise AssetError(f"WordNet 3.0 lacks {file}", where=folder, todo=todo)
    return folder
