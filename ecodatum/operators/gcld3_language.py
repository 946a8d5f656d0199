"""Language identification with gcld3, as LAION-2B was filtered."""

from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from ecodatum.errors import AssetError
from ecodatum.operators.caption import captions
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where

#: What DataComp hands to gcld3 (baselines/apply_filter.py).
_BYTES: Final = {"min_num_bytes": 0, "max_num_bytes": 1000}


class Gcld3Language(MetadataOperator):
    """The most likely language of a caption by Google's compact language detector, version 3."""

    name = "gcld3_language"
    version = 1

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        _ = self._model  # it is small; that it is absent is better known before anything runs

    @property
    def columns(self) -> tuple[Column, ...]:
        """The code alone: DataComp looks at nothing else."""
        return (Column("lang", pa.string(), "BCP 47 code of the language, `und` where there is none"),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    @cached_property
    def _model(self) -> Any:
        try:
            import gcld3
        except ImportError as error:
            raise AssetError(
                f"gcld3 cannot be imported: {error}",
                where=f"operator {self.name}",
                todo="install the extra: pip install 'ecodatum[gcld3]'; it is built from source, which needs"
                " a C++ compiler and Debian's protobuf-compiler and libprotobuf-dev",
            ) from error
        return gcld3.NNetLanguageIdentifier(**_BYTES)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Predict as DataComp does: of all line breaks only LF becomes a space."""
        text = captions(batch)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        find = self._model.FindLanguage
        found = [None if c is None else find(text=c.replace("\n", " ")).language for c in text.to_pylist()]
        return self.scores({"lang": found}, fault_where(missing, "no caption"))
