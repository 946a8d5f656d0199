"""Image caption concreteness: how well a caption could be seen, by the caption alone."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecodatum.operators.assets import find_asset, folder_files
from ecodatum.operators.caption import captions
from ecodatum.operators.clip_models import cpu_threads
from ecodatum.operators.operator import Column, MetadataOperator, Parameters, Scores, fault_where
from ecodatum.operators.transformers_models import Precision, load_model, load_part, require_transformers

#: Captions that go through the model together, of about the same length.
_TOGETHER: Final = 256


class IccParameters(Parameters):
    """model: the asset `icc`, or a folder with a model of one output and its tokenizer."""

    model: str = "icc"
    precision: Precision = "fp32"


class Icc(MetadataOperator):
    """How concrete a caption is (Yanuka et al. 2024, arXiv 2403.01306), one of EcoDatum's operators."""

    name = "icc"
    version = 1
    runs_on = "gpu"
    parameters_type = IccParameters

    def __init__(self, parameters: IccParameters) -> None:
        super().__init__(parameters)
        require_transformers(self.name)
        self._precision = parameters.precision
        self._folder = find_asset(parameters.model, what="model of caption concreteness")
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The model's output as it is: a regression on scores of 0 to 1, which it may leave a little."""
        return (Column("score", pa.float32(), "concreteness, about 0 (abstract) to 1 (concrete)"),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The caption."""
        return ("text",)

    @property
    def assets(self) -> Mapping[str, tuple[Path, ...]]:
        """The model's files."""
        return {"model": folder_files(self._folder)}

    def prepare(self, device: str) -> None:
        """Load the model onto the device."""
        self._device = device
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        model = load_model(
            "AutoModelForSequenceClassification",
            self._folder,
            device=self._device,
            precision=self._precision,
        )
        return model, load_part("AutoTokenizer", self._folder)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """Score each distinct caption once, the short ones together, so that little is padded."""
        text = captions(batch)
        coded = text.dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        found = self._concreteness(distinct)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        which = coded.indices.fill_null(0).to_numpy()
        scores = found[which] if distinct else np.zeros(len(text), np.float32)
        return self.scores({"score": pa.array(scores, mask=missing)}, fault_where(missing, "no caption"))

    def _concreteness(self, lines: list[str]) -> npt.NDArray[np.float32]:
        """Return the model's output for each caption; (n,) float32."""
        import torch

        model, tokenizer = self._loaded
        found = np.empty(len(lines), np.float32)
        order = np.argsort([len(line) for line in lines], kind="stable")
        threads = 1 if self._device == "cpu" else None
        with cpu_threads(threads), torch.inference_mode():
            for start in range(0, len(order), _TOGETHER):
                rows = order[start : start + _TOGETHER]
                chosen = [lines[row] for row in rows]
                tokens = tokenizer(chosen, padding=True, truncation=True, return_tensors="pt")
                found[rows] = model(**tokens.to(self._device)).logits[:, 0].float().cpu().numpy()
        return found
