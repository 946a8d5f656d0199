"""Snorkel's label model, fitted on the histogram of vote patterns instead of the n × m label matrix."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from snorkel.labeling.model import LabelModel

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.recipe import LabelModelSettings
from ecodatum.curate.voting import ABSTAIN, SELECT, unpack
from ecodatum.errors import ConfigError


class _HistogramLabelModel(LabelModel):  # type: ignore[misc]  # snorkel has no types
    """Snorkel's model over distinct rows that stand for `counts` rows each.

    The label matrix enters the fit only through O = LᵀL / n, the coverage and n (in the clamp of μ);
    all three are replaced by their weighted forms, the rest is Snorkel's.
    """

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        super().__init__(cardinality=2, verbose=False)
        self._counts = counts

    def _generate_O(self, L: npt.NDArray[np.int64], higher_order: bool = False) -> None:  # noqa: N802
        augmented = self._get_augmented_label_matrix(L, higher_order=higher_order)
        self.d = augmented.shape[1]
        products = augmented.T @ (augmented * self._counts[:, None])
        self.O = torch.from_numpy(products / self._counts.sum()).float().to(self.config.device)


@dataclass(frozen=True)
class Fitted:
    """A fitted label model.

    weights: (m,) accuracies that Snorkel assigns to the labelling functions (`get_weights`).
    probabilities: (k,) P(SELECT) of each pattern of the histogram it was fitted on.
    mu: (2m, 2) the conditional probabilities P(vote | class).
    """

    weights: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    mu: npt.NDArray[np.float32]


def fit(histogram: Histogram, functions: int, settings: LabelModelSettings) -> Fitted:
    """Fit the label model; equal to Snorkel's `LabelModel.fit` and `predict_proba` on the full matrix.

    Raises ConfigError for fewer than three labelling functions or a fit that diverges.
    """
    if functions < 3:
        raise ConfigError("a label model needs at least three labelling functions")
    votes = unpack(histogram.patterns, functions).astype(np.int64)
    total = histogram.total
    # Snorkel's default for n rows; here it would see only the number of distinct rows.
    mu_eps = min(0.01, 1 / 10 ** np.ceil(np.log10(total)))
    model = _HistogramLabelModel(histogram.counts)
    try:
        with _global_seeds_kept():
            model.fit(
                votes,
                n_epochs=settings.epochs,
                lr=settings.learning_rate,
                l2=settings.l2,
                seed=settings.seed,
                mu_eps=float(mu_eps),
                progress_bar=False,
            )
    except Exception as error:
        if "NaN" not in str(error):
            raise
        raise ConfigError("the label model's loss is NaN", todo="lower label_model.learning_rate") from error
    model.coverage = (histogram.counts / total) @ (votes != ABSTAIN)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = model.get_weights()  # a function without votes gets 0/0, which Snorkel clips to 1
    probabilities = model.predict_proba(votes)[:, SELECT]
    return Fitted(np.nan_to_num(weights, nan=1.0), probabilities, model.mu.detach().numpy())


@contextlib.contextmanager
def _global_seeds_kept() -> Iterator[None]:
    """Put the global generators, which Snorkel seeds, back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
