"""Language identification with fastText's lid.176."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ecodatum.errors import AssetError
from ecodatum.operators.assets import find_asset
from ecodatum.operators.caption import captions
from ecodatum.operators.fasttext_model import FasttextModel
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where

#: The quantised model comes with a dependency; the full one lies in the assets folder.
QUANTISED: Final = "lid.176.ftz"


class LanguageParameters(Parameters):
    """model: `lid.176.ftz`, `lid.176.bin`, or the path of a fastText language model.

    lowercase: lower-case the caption first, as Data-Juicer and EcoDatum do; DataComp doesn't.
    """

    model: str = QUANTISED
    lowercase: bool = False


class Language(MetadataOperator):
    """The most likely language of a caption, and how sure the model is."""

    name = "language"
    version = 2
    parameters_type = LanguageParameters

    def __init__(self, parameters: LanguageParameters) -> None:
        super().__init__(parameters)
        self._lowercase = parameters.lowercase
        self._path = find_model(parameters.model)

    @property
    def columns(self) -> tuple[Column, ...]:
        """fastText adds 1e-5 before it takes a logarithm, so that a score may end just above 1."""
        return (
            Column("lang", pa.string(), "ISO 639 code of the language"),
            Column("lang_score", pa.float32(), "probability of that language", 0, 1.0001),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The language model."""
        return {"model": (self._path,)}

    @cached_property
    def _model(self) -> Any:
        import fasttext

        try:
            return fasttext.load_model(str(self._path))
        except (ValueError, MemoryError, RuntimeError) as error:
            raise AssetError(f"not a fastText model: {error}", where=self._path) from error

    @cached_property
    def _columnar(self) -> FasttextModel | None:
        return FasttextModel.read(self._path)

    def prepare(self, device: str) -> None:
        """Load the model."""
        _ = self._model, self._columnar

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Predict as DataComp does: of all line breaks only LF becomes a space."""
        text = captions(batch)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        if self._lowercase:
            text = pa.array([line and line.lower() for line in text.to_pylist()], text.type)
        if self._columnar:
            prediction = self._columnar.predict(text)
            alone = np.flatnonzero(prediction.undecided & ~missing)
            lang = np.array(self._columnar.labels.to_pylist(), object)[prediction.labels]
            score = prediction.probabilities
        else:
            alone = np.flatnonzero(~missing)
            lang, score = np.empty(len(text), object), np.empty(len(text), np.float32)
        unsure = np.zeros(len(text), bool)
        for row, line in zip(alone, text.take(pa.array(alone)).to_pylist(), strict=True):
            labels, chances = self._model.predict(line.replace("\n", " "))
            unsure[row] = not labels
            if labels:
                lang[row], score[row] = labels[0].removeprefix("__label__"), chances[0]
        return self.scores(
            {
                "lang": pa.array(lang, pa.string(), mask=missing | unsure),
                "lang_score": pa.array(score, mask=missing | unsure),
            },
            fault_where(missing, "no caption"),
            fault_where(unsure, "the language model gives no label"),
        )


def find_model(model: str) -> Path:
    """Return the file of a fastText language model, given by path or by one of the two known names.

    Raises AssetError, with the command that fetches it, when there is none.
    """
    return find_asset(model, what="language model")
