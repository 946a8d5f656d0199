"""Negative CLIP loss: a pair's similarity, less what its image and its caption share with any others."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ecodatum.errors import PoolError
from ecodatum.operators.operator import Column, EmbeddingsOperator, Parameters, Scores, fault_where

#: Batches that a window of consecutive rows makes, so that a part is shuffled without being held.
_BATCHES_A_WINDOW = 4

#: Similarities that are held at once: 128 MiB in fp32.
_HELD = 1 << 25


class NegClipLossParameters(Parameters):
    """image, text: the arrays of the pool's embeddings.

    batch_size, temperature: B and τ of the CLIP loss. repeats: the number K of random batches that each
    sample is in, whose losses are averaged. seed: of the batches.
    """

    image: str = "l14_img"
    text: str = "l14_txt"
    batch_size: Annotated[int, Field(ge=2)] = 32768
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    repeats: Annotated[int, Field(ge=1)] = 10
    seed: Annotated[int, Field(ge=0)] = 0


class NegClipLoss(EmbeddingsOperator):
    """negCLIPLoss of Wang et al. 2024 (arXiv 2405.19547), over the pool's own embeddings.

    For an image f_i with its caption g_i in a batch of B pairs, and averaged over K such batches:
    f_i·g_i − τ/2 · (log Σ_j exp(f_i·g_j/τ) + log Σ_j exp(f_j·g_i/τ)), which is τ times the negative of
    the pair's CLIP loss.

    The authors' code shuffles a metadata file's rows and cuts them into batches of B and a shorter rest.
    Here a window of at most four batches' rows, one after another in the file, is shuffled and cut into
    equal batches, so that a file of any length is read as a stream; at their 110,000 rows a file the window
    is the file. The batches depend on the rows of the part and the seed alone. A batch of b < B pairs
    stands for one of B: the sum over the b − 1 others counts (B − 1)/(b − 1) times, so that scores of
    parts of unlike length compare. At b = B the score is the authors' to rounding.
    """

    name = "negcliploss"
    version = 1
    runs_on = "gpu"
    parameters_type = NegClipLossParameters

    def __init__(self, parameters: NegClipLossParameters) -> None:
        super().__init__(parameters)
        self._settings = parameters
        self._device = "cpu"

    @property
    def columns(self) -> tuple[Column, ...]:
        """One score; higher is better, and none is above 0."""
        return (Column("negcliploss", pa.float32(), "τ times the negative of the pair's CLIP loss", high=0),)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The embeddings of image and caption."""
        return (self._settings.image, self._settings.text)

    def rows_at_once(self, rows: int) -> int:
        """Return the rows of a window: windows of a part are as equal as can be."""
        windows = math.ceil(max(rows, 1) / (_BATCHES_A_WINDOW * self._settings.batch_size))
        return math.ceil(max(rows, 1) / windows)

    def prepare(self, device: str) -> None:
        """Remember where to work."""
        self._device = device

    def score(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Scores:
        """Score a window; a pair that is not finite, or alone, has no score and is in no batch."""
        image, text = (arrays[name] for name in self.inputs)
        if image.shape[1] != text.shape[1]:
            raise PoolError(
                f"{self._settings.image} is {image.shape[1]} wide, {self._settings.text} {text.shape[1]}",
                todo="both must be of the same CLIP model",
            )
        finite = np.isfinite(image).all(axis=1) & np.isfinite(text).all(axis=1)
        rows = np.flatnonzero(finite)
        scores = np.full(len(image), np.nan, np.float32)
        alone = np.zeros(len(image), bool)
        if len(rows) > 1:
            scores[rows] = self._mean_over_batches(image, text, rows)
        else:
            alone[rows] = True
        return self.scores(
            {"negcliploss": pa.array(scores, mask=np.isnan(scores))},
            fault_where(~finite, "an embedding is not finite"),
            fault_where(alone, "no other sample to compare with"),
        )

    def _mean_over_batches(
        self, image: npt.NDArray[Any], text: npt.NDArray[Any], rows: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        """Return the mean of the repeats for the given rows; (len(rows),)."""
        total = np.zeros(len(rows))
        for repeat in range(self._settings.repeats):
            order = np.random.default_rng([self._settings.seed, repeat]).permutation(len(rows))
            for members in np.array_split(order, math.ceil(len(rows) / self._settings.batch_size)):
                chosen = rows[members]
                total[members] += self._in_batch(image[chosen], text[chosen])
        mean: npt.NDArray[np.float64] = np.minimum(total / self._settings.repeats, 0)  # 0 but for rounding
        return mean

    def _in_batch(self, image: npt.NDArray[Any], text: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the score of each of b pairs in their batch, (b,)."""
        import torch

        temperature, size = self._settings.temperature, self._settings.batch_size
        f, g = (torch.from_numpy(array).to(self._device).float() for array in (image, text))
        own = (f * g).sum(1) / temperature
        over_text = torch.empty_like(own)
        over_images = torch.full_like(own, -torch.inf)
        with torch.inference_mode():
            for rows in _blocks(len(f)):
                logits = f[rows] @ g.T
                logits /= temperature
                diagonal = torch.arange(rows.start, rows.stop, device=logits.device)
                logits[diagonal - rows.start, diagonal] = -torch.inf
                over_text[rows] = torch.logsumexp(logits, 1)
                over_images = torch.logaddexp(over_images, torch.logsumexp(logits, 0))
            more = math.log((size - 1) / (len(f) - 1))
            normaliser = sum(torch.logaddexp(own, others + more) for others in (over_text, over_images))
            score: npt.NDArray[np.float32] = (temperature * (own - normaliser / 2)).cpu().numpy()
        return score


def _blocks(rows: int) -> Iterator[slice]:
    """Cut the rows of a (rows, rows) matrix so that few of its entries are held."""
    step = max(1, _HELD // rows)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
