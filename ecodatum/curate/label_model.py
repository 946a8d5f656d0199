"""Snorkel's label model, fitted on the histogram of vote patterns instead of the n × m label matrix."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.recipe import LabelModelSettings
from ecodatum.curate.voting import ABSTAIN, REJECT, SELECT, unpack
from ecodatum.errors import ConfigError

if TYPE_CHECKING:
    import torch

#: Snorkel's `prec_init`, its prior of the classes when none is given, and the momentum of its SGD.
_PRECISION: Final = 0.7
_PRIOR: Final = 0.5
_MOMENTUM: Final = 0.9


@dataclass(frozen=True)
class Combined:
    """What votes are combined to.

    weights: (m,) of the labelling functions. probabilities: (k,) P(SELECT) of a histogram's patterns.
    """

    weights: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fitted(Combined):
    """A fitted label model; its weights are the accuracies that Snorkel assigns (`get_weights`).

    mu: (2m, 2) the conditional probabilities P(vote | class).
    """

    mu: npt.NDArray[np.float32]


def fit(histogram: Histogram, functions: int, settings: LabelModelSettings) -> Fitted:
    """Fit the label model; equal to Snorkel's `LabelModel.fit` and `predict_proba` on the full matrix.

    The matrix enters Snorkel's fit only through O = LᵀL / n, the coverage and n (in the clamp of μ), and
    the histogram gives all three. Raises ConfigError for fewer than three labelling functions or a fit
    that diverges. Source: snorkel.labeling.model.LabelModel (Ratner et al. 2019, arXiv 1810.02840).
    """
    if functions < 3:
        raise ConfigError("a label model needs at least three labelling functions")
    votes = unpack(histogram.patterns, functions)
    total = histogram.total
    cast = _one_hot(votes)
    joint = (cast.T @ (cast * histogram.counts[:, None]) / total).astype(np.float32)
    mu = _descend(joint, settings)
    if not np.isfinite(mu).all():
        raise ConfigError("the label model's loss is NaN", todo="lower label_model.learning_rate")
    smallest = min(0.01, 1 / 10 ** np.ceil(np.log10(total)))
    mu = _likelier(np.clip(mu, np.float32(smallest), np.float32(1 - smallest)))
    coverage = (histogram.counts / total) @ (votes != ABSTAIN)
    right = mu[0::2, REJECT].astype(np.float64) + mu[1::2, SELECT]
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.clip(right * _PRIOR / coverage, 1e-6, 1.0)
    weights[coverage == 0] = 1.0  # as Snorkel has it for a function without votes
    return Fitted(weights, predict_proba(mu, votes), mu)


def predict_proba(mu: npt.NDArray[np.float32], votes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return P(SELECT) of rows of the label matrix.

    mu: (2m, 2) of a fit. votes: (k, m). Returns (k,). Equal to Snorkel's `predict_proba`.
    """
    likelihood = np.exp(_one_hot(votes) @ np.log(mu) + np.log(_PRIOR))
    selected: npt.NDArray[np.float64] = likelihood[:, SELECT] / likelihood.sum(axis=1)
    return selected


def _one_hot(votes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return (k, 2m): columns 2j and 2j + 1 tell where function j rejects and selects."""
    cast = np.empty((len(votes), 2 * votes.shape[1]))
    cast[:, 0::2], cast[:, 1::2] = votes == REJECT, votes == SELECT
    return cast


def _likelier(mu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Swap the classes where that trusts the functions more: the loss is the same either way."""
    trust = mu.reshape(-1, 2, 2).sum(axis=0)
    swap = trust[REJECT, SELECT] + trust[SELECT, REJECT] > trust[REJECT, REJECT] + trust[SELECT, SELECT]
    return np.ascontiguousarray(mu[:, ::-1]) if swap else mu


def _descend(joint: npt.NDArray[np.float32], settings: LabelModelSettings) -> npt.NDArray[np.float32]:
    """Return μ, (2m, 2), after Snorkel's gradient descent on O, (2m, 2m).

    The gradients are written out, in the order in which autograd adds them up: bit for bit Snorkel's
    steps in float32 without the graph, in a tenth of the time. numpy's own kernels round otherwise,
    and small entries of μ carry that into the probabilities beyond 1e-6.
    """
    import torch

    size = len(joint)
    first = _first_guess(joint)
    draw = np.random.RandomState(settings.seed).random_sample()
    block = np.arange(size) // 2
    pairs = torch.from_numpy(np.flatnonzero(block[:, None] != block[None]))
    rate, l2 = settings.learning_rate, settings.l2
    with torch.inference_mode():
        o, diagonal = torch.from_numpy(joint), torch.from_numpy(np.diag(joint).copy())
        start = torch.from_numpy(first)
        mu = start * draw
        slope = torch.zeros(size, size)
        flat = slope.view(-1)
        step: torch.Tensor | None = None
        for _ in range(settings.epochs):
            half = mu * _PRIOR
            residual = (o - half @ mu.t()).view(-1).index_select(0, pairs)
            flat.index_copy_(0, pairs, _norm_squared_slope(residual, -1))
            marginal = _norm_squared_slope(half.sum(1).sub_(diagonal), _PRIOR)
            gradient = _norm_squared_slope((mu - start).mul_(l2), 1).mul_(l2)
            gradient.add_(marginal[:, None]).add_(slope.t() @ half).add_((slope @ mu).mul_(_PRIOR))
            gradient.add_(mu, alpha=l2)
            step = gradient if step is None else step.mul_(_MOMENTUM).add_(gradient)
            mu.add_(step, alpha=-rate)
        result: npt.NDArray[np.float32] = mu.numpy()
    return result


def _first_guess(joint: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return Snorkel's `mu_init`: P(vote = y | y) from how often each vote is cast."""
    cast = np.diag(joint)
    guess = np.zeros((len(joint), 2), np.float32)
    for label in (REJECT, SELECT):
        likely = cast[label::2] * np.float32(_PRECISION) / np.float32(_PRIOR)
        guess[label::2, label] = np.clip(likely, 0, 1)
    return guess


def _norm_squared_slope(values: "torch.Tensor", factor: float) -> "torch.Tensor":
    """Return `factor`, ± a power of two, times the slope of ‖values‖² as autograd finds it: by the norm.

    Changes `values`.
    """
    import torch

    norm = torch.linalg.vector_norm(values).item()
    return values.div_(norm or 1.0).mul_(2 * factor * norm)
