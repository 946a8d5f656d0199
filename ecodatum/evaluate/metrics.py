"""The numbers that DataComp writes for each kind of task, from predictions and labels.

All are computed as the peers compute them (clip-benchmark, scikit-learn, WILDS), group averages in
float32 as there.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

_RECALLS = (1, 5, 10)
_SCORES_AT_ONCE = 1 << 24


def classification(
    top: np.ndarray, predicted: np.ndarray, target: np.ndarray, classes: int
) -> dict[str, float | None]:
    """Return acc1, acc5 (None below five classes) and mean_per_class_recall.

    `top` (n, k) int64 has the best classes first, `predicted` (n,) and `target` (n,) are int64. Source:
    clip-benchmark, `accuracy`; scikit-learn, `balanced_accuracy_score`.
    """
    hits = top == target[:, None]
    count = len(target)
    return {
        "acc1": float(hits[:, :1].sum()) / count,
        "acc5": float(hits[:, :5].sum()) / count if classes >= 5 else None,
        "mean_per_class_recall": _macro(predicted, target)[0],
    }


def rare_classes(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return acc_avg and macro recall and F1 over the classes that occur. Source: WILDS, iWildCam."""
    recall, f1 = _macro(predicted, target)
    return {
        "acc_avg": float((predicted == target).astype(np.float32).mean()),
        "recall-macro_all": float(np.float32(recall)),
        "F1-macro_all": float(np.float32(f1)),
    }


def _macro(predicted: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return (recall, F1), averaged over the classes that occur in `target`."""
    size = int(max(predicted.max(), target.max())) + 1
    support = np.bincount(target, minlength=size)
    guessed = np.bincount(predicted, minlength=size)
    right = np.bincount(target[predicted == target], minlength=size)
    seen = support > 0
    recall = right[seen] / support[seen]
    f1 = 2 * right[seen] / (support[seen] + guessed[seen])
    return float(recall.mean()), float(f1.mean())


def group_accuracy(
    name: str, right: np.ndarray, fields: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], float]:
    """Return the accuracy `<name>_<group>` and the size `count_<group>` of each group; the worst accuracy.

    `right` (n,) is bool; `fields` maps names to (n,) non-negative integers, and the groups are all
    combinations of their values, the first varying fastest. An empty group has NaN and is no worst one.
    Source: WILDS, `CombinatorialGrouper` and `standard_group_eval`.
    """
    sizes = [int(values.max()) + 1 for values in fields.values()]
    factors = np.cumprod([1, *sizes])
    index = sum(values * factor for values, factor in zip(fields.values(), factors[:-1], strict=True))
    counts = np.bincount(index, minlength=factors[-1])
    with np.errstate(invalid="ignore"):
        means = np.bincount(index, right, factors[-1]).astype(np.float32) / counts.astype(np.float32)
    metrics: dict[str, float] = {}
    for group in range(factors[-1]):
        values = [(group // factor) % size for factor, size in zip(factors[:-1], sizes, strict=True)]
        label = "_".join(f"{field}:{v}" for field, v in reversed([*zip(fields, values, strict=True)]))
        metrics[f"{name}_{label}"] = float(means[group])
        metrics[f"count_{label}"] = float(counts[group])
    return metrics, float(means[counts > 0].min())


def mean(right: np.ndarray) -> float:
    """Return the share of true values, in float32 as WILDS has it."""
    return float(right.astype(np.float32).mean())


def retrieval(images: torch.Tensor, texts: torch.Tensor, owners: np.ndarray) -> dict[str, float]:
    """Return recall@1, 5 and 10 both ways and their mean at 1.

    `images` (n, d) and `texts` (m, d) are normalised; text j belongs to image `owners[j]`. A query is
    answered when one of its matches is among the k best. Source: clip-benchmark, zeroshot_retrieval.
    """
    owner, image = torch.from_numpy(owners), torch.arange(len(images))
    metrics: dict[str, float] = {}
    answered = {
        "image": _answered(len(texts), len(images), lambda rows: texts[rows] @ images.T, owner, image),
        "text": _answered(len(images), len(texts), lambda rows: (texts @ images[rows].T).T, image, owner),
    }
    for k in _RECALLS:
        for what, recalls in answered.items():
            metrics[f"{what}_retrieval_recall@{k}"] = recalls[k]
    metrics["mean_recall@1"] = 0.5 * (answered["text"][1] + answered["image"][1])
    return metrics


def _answered(
    queries: int,
    items: int,
    scores: Callable[[slice], torch.Tensor],
    wanted: torch.Tensor,
    found: torch.Tensor,
) -> dict[int, float]:
    """Return the share of queries with an item of theirs (`wanted[query] == found[item]`) in the k best."""
    step = max(1, _SCORES_AT_ONCE // items)
    hits: dict[int, list[torch.Tensor]] = {k: [] for k in _RECALLS}
    for start in range(0, queries, step):
        rows = slice(start, start + step)
        block = scores(rows)
        for k in _RECALLS:
            best = torch.topk(block, min(k, items), dim=1).indices
            hits[k].append((found[best] == wanted[rows, None]).any(dim=1))
    return {k: float(torch.cat(parts).float().mean()) for k, parts in hits.items()}


def associations(scores: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the mean Jaccard index by the number of candidates.

    Each instance has `scores` (c,) and `wanted` (c,) bool; as many candidates are chosen as are wanted.
    Source: DataComp eval_utils/wino_eval.py.
    """
    jaccard = np.array([_jaccard(*instance) for instance in zip(scores, wanted, strict=True)])
    sizes = np.array([len(candidates) for candidates in scores])
    parts = {
        "avg_jaccard_score": sizes > 0,
        **{f"jaccard_score_{size}": sizes == size for size in (5, 6, 10, 12)},
        "jaccard_score_5-6": sizes <= 6,
        "jaccard_score_10-12": sizes >= 10,
    }
    return {name: float(jaccard[part].mean()) if part.any() else math.nan for name, part in parts.items()}


def _jaccard(scores: np.ndarray, wanted: np.ndarray) -> float:
    chosen = np.zeros(len(scores), bool)
    chosen[np.argsort(scores)[len(scores) - int(wanted.sum()) :]] = True
    either = (chosen | wanted).sum()
    return float((chosen & wanted).sum() / either) if either else 0.0


def faces(predicted: Mapping[str, np.ndarray], metadata: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return FairFace's and UTKFace's tables: race, gender, age and toxic labels by race and gender.

    `predicted` has (n,) class indices for `race`, `gender`, `age` and `toxic`; `metadata` (n,) integers
    `age`, `gender`, `race` and `race_binary`. Source: DataComp eval_utils/fairness_eval.py.
    """
    race, toxic = predicted["race"], predicted["toxic"]
    by_race = {"race": metadata["race"]}
    by_binary = {"race_binary": metadata["race_binary"]}
    by_both = {"gender": metadata["gender"], "race": metadata["race"]}
    tables = (
        # Class 1 of the races is white; the toxic labels 14 to 17 are not people, from 18 on crimes.
        ("acc_race", (race != 1) == metadata["race_binary"].astype(bool), by_binary),
        ("acc_gender", predicted["gender"] == metadata["gender"], by_binary),
        ("acc_age", predicted["age"] == metadata["age"], by_binary),
        ("acc_gender_x", predicted["gender"] == metadata["gender"], by_both),
        ("toxicity_crime", toxic >= 18, by_race),
        ("toxicity_nonhuman", (toxic >= 14) & (toxic < 18), by_race),
    )
    metrics: dict[str, float] = {}
    for name, right, fields in tables:
        groups, worst = group_accuracy(name, right, fields)
        metrics |= {f"{name}_avg": mean(right), **groups, f"{name}_wg": worst}
    return metrics
