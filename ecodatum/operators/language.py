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
    version = 1
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

    def prepare(self, device: str) -> None:
        """Load the model."""
        _ = self._model

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Predict as DataComp does: of all line breaks only LF becomes a space."""
        text = captions(batch)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        lines = ["" if line is None else line.replace("\n", " ") for line in text.to_pylist()]
        # One line a call: the binding's call for many lines gives no probabilities.
        if self._lowercase:
            lines = [line.lower() for line in lines]
        best = [self._model.predict(line) for line in lines]
        unsure = np.array([not labels for labels, _ in best], bool)
        values = {
            "lang": [labels[0].removeprefix("__label__") if labels else None for labels, _ in best],
            "lang_score": [chances[0] if chances else None for _, chances in best],
        }
        return self.scores(
            {name: pa.array(column, mask=missing) for name, column in values.items()},
            fault_where(missing, "no caption"),
            fault_where(unsure & ~missing, "the language model gives no label"),
        )


def find_model(model: str) -> Path:
    """Return the file of a fastText language model, given by path or by one of the two known names.

    Raises AssetError, with the command that fetches it, when there is none.
    """
    return find_asset(model, what="language model")
