"""Combination: what makes P(SELECT) of vote patterns: the label model, or what it is compared with."""

from typing import assert_never

import numpy as np

from ecodatum.curate.histogram import Histogram
from ecodatum.curate.label_model import Combined, fit
from ecodatum.curate.recipe import Recipe
from ecodatum.curate.voting import REJECT, SELECT, unpack
from ecodatum.errors import ConfigError


def combine(histogram: Histogram, recipe: Recipe) -> Combined:
    """Return weights of a recipe's labelling functions, (m,), and P(SELECT) of the patterns, (k,).

    Raises ConfigError for a label model that cannot be fitted, or a recipe that ranks by scores alone.
    """
    count = len(recipe.labelling_functions)
    match recipe.combine:
        case "label_model":
            return fit(histogram, count, recipe.label_model)
        case "majority_vote":
            return majority_vote(histogram, count)
        case "random_weights":
            return random_weights(histogram, count, recipe.label_model.seed)
        case "mean_score":
            raise ConfigError("combine: mean_score is no combination of votes", where=recipe.name)
        case other:
            assert_never(other)


def majority_vote(histogram: Histogram, functions: int) -> Combined:
    """Return 1 where more functions SELECT than REJECT, 0 where fewer do, and 1/2 between.

    Equal to snorkel.labeling.model.MajorityLabelVoter on the full matrix.
    """
    votes = unpack(histogram.patterns, functions)
    ahead = (votes == SELECT).sum(axis=1) - (votes == REJECT).sum(axis=1)
    return Combined(np.full(functions, 1 / functions), (np.sign(ahead) + 1) / 2)


def random_weights(histogram: Histogram, functions: int, seed: int) -> Combined:
    """Return the mean vote (SELECT 1, REJECT 0, ABSTAIN 1/2) under weights drawn uniformly from [0, 1).

    EcoDatum's Table 7 compares with random weights and does not say how it draws and applies them.
    """
    weights = np.random.default_rng(seed).random(functions)
    votes = unpack(histogram.patterns, functions)
    signed = (votes == SELECT).astype(np.float64) - (votes == REJECT)
    return Combined(weights, (signed @ weights / weights.sum() + 1) / 2)
