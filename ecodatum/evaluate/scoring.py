"""Scores one task: what each kind reads, how it predicts, and the metrics that DataComp writes for it."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch

from ecodatum.errors import PoolError
from ecodatum.evaluate import metrics
from ecodatum.evaluate.encoder import Encoder
from ecodatum.evaluate.sets import LabelledSet, TestImage, decode_rgb, decode_upright, table_set
from ecodatum.evaluate.tasks import Task

Metrics = dict[str, float | None]
_LOGITS_AT_ONCE: Final = 1 << 24
_FACE_LABELS: Final = ("race", "gender", "age", "toxic")
_FACE_METADATA: Final = ("age", "gender", "race", "race_binary")


class ImageFeatures:
    """The features and labels of labelled sets; those of a folder that several tasks use are kept."""

    def __init__(self, encoder: Encoder, shared: frozenset[Path]) -> None:
        self._encoder, self._shared = encoder, shared
        self._kept: dict[Path, tuple[torch.Tensor, list[TestImage]]] = {}

    def of(self, data: LabelledSet) -> tuple[torch.Tensor, list[TestImage]]:
        """Return (features (n, d), the images without their bytes) of a set."""
        if data.folder in self._kept:
            return self._kept[data.folder]
        labels: list[TestImage] = []

        def remembering() -> Iterator[TestImage]:
            for test in data.images():
                labels.append(TestImage(b"", test.where, test.label, test.metadata))
                yield test

        features = self._encoder.images(remembering(), decode_rgb)
        if not labels:
            raise PoolError("the evaluation set holds no samples", where=data.folder)
        if data.folder in self._shared:
            self._kept[data.folder] = features, labels
        return features, labels


def score(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    """Return a task's metrics under DataComp's names, for its data in `folder`.

    Raises PoolError when the data is missing or damaged.
    """
    return _SCORERS[task.kind](task, folder, encoder, images)


def _classification(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    return _classify(task, folder, encoder, images)[0]


def _classify(
    task: Task, folder: Path, encoder: Encoder, images: ImageFeatures
) -> tuple[Metrics, np.ndarray, np.ndarray, np.ndarray, list[TestImage]]:
    """Return (metrics, top classes (n, k), predicted (n,), target (n,), the images)."""
    data = LabelledSet(folder)
    classifier = encoder.classifier(data.prompts(data.classes, data.templates), len(data.classes))
    features, tests = images.of(data)
    target = _labels(tests, len(data.classes))
    top, predicted = _predict(features, classifier, max(5, task.top))
    return metrics.classification(top, predicted, target, len(data.classes)), top, predicted, target, tests


def _labels(tests: list[TestImage], classes: int) -> np.ndarray:
    for test in tests:
        if test.label is None or not 0 <= test.label < classes:
            raise PoolError(f"label {test.label} is not one of {classes} classes", where=test.where)
    return np.array([test.label for test in tests], np.int64)


def _predict(features: torch.Tensor, classifier: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (the k best classes, the best class); peers take acc1 from the first, recall from the other."""
    k = min(k, classifier.shape[1])
    k = k if k >= 5 else 1
    top, predicted = [], []
    step = max(1, _LOGITS_AT_ONCE // classifier.shape[1])
    for rows in (features[start : start + step] for start in range(0, len(features), step)):
        logits = 100.0 * rows @ classifier
        top.append(logits.topk(k, dim=1).indices)
        predicted.append(logits.argmax(dim=1))
    return torch.cat(top).numpy(), torch.cat(predicted).numpy()


def _metadata(tests: list[TestImage], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the values of the samples' npy by their names, each (n,) int64."""
    for test in tests:
        if test.metadata is None or test.metadata.shape != (len(names),):
            shape = "no" if test.metadata is None else f"a {test.metadata.shape}"
            raise PoolError(f"{shape} npy where {len(names)} values are expected", where=test.where)
    columns = np.stack([test.metadata for test in tests if test.metadata is not None]).astype(np.int64).T
    if columns.min() < 0:
        raise PoolError("a negative value in the metadata", where=tests[0].where)
    return dict(zip(names, columns, strict=True))


def _groups(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    scores, top, predicted, target, tests = _classify(task, folder, encoder, images)
    metadata = _metadata(tests, task.metadata)
    right = predicted == target if task.top == 1 else (top[:, : task.top] == target[:, None]).any(axis=1)
    scores[f"{task.group_metric}_avg"] = metrics.mean(right)
    for field in task.group_by:
        groups, worst = metrics.group_accuracy(task.group_metric, right, {field: metadata[field]})
        scores |= {**groups, task.worst_group(field): worst}
    return scores


def _rare_classes(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    scores, _, predicted, target, _ = _classify(task, folder, encoder, images)
    return {**scores, **metrics.rare_classes(predicted, target)}


def _faces(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    data = LabelledSet(folder)
    features, tests = images.of(data)
    predicted = {}
    for label in _FACE_LABELS:
        classes = _with_prefix(data.classes, label)
        prompts = data.prompts(classes, _with_prefix(data.templates, label))
        if not prompts:
            raise PoolError(f"no class names or templates for {label!r}", where=folder)
        predicted[label] = _predict(features, encoder.classifier(prompts, len(classes)), 1)[1]
    return {**metrics.faces(predicted, _metadata(tests, _FACE_METADATA))}


def _with_prefix(lines: list[str], label: str) -> list[str]:
    return [line.removeprefix(f"{label}:") for line in lines if line.startswith(f"{label}:")]


def _retrieval(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    captions: list[list[str]] = []

    def pictures() -> Iterator[TestImage]:
        for row in table_set(task, folder).rows():
            captions.append([row["caption"]] if isinstance(row["caption"], str) else row["caption"])
            yield TestImage(row["image"]["bytes"], f"{folder}: row {len(captions) - 1}")

    features = encoder.images(pictures(), decode_upright)
    texts = [text for own in captions for text in own]
    if not texts:
        raise PoolError("the evaluation set holds no captions", where=folder)
    owners = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
    return {**metrics.retrieval(features, encoder.texts(texts), owners)}


def _associations(task: Task, folder: Path, encoder: Encoder, images: ImageFeatures) -> Metrics:
    known: dict[bytes, int] = {}
    candidates: list[list[int]] = []
    wanted: list[np.ndarray] = []
    cues: list[str] = []

    def new_pictures() -> Iterator[TestImage]:
        for row in table_set(task, folder).rows():
            cues.append(_cue_prompt(row["cue"]))
            wanted.append(np.isin(row["candidates"], row["associations"]))
            candidates.append([])
            for picture in row["candidate_images"]:
                digest = hashlib.blake2b(picture["bytes"]).digest()
                fresh = digest not in known
                candidates[-1].append(known.setdefault(digest, len(known)))
                if fresh:
                    yield TestImage(picture["bytes"], f"{folder}: row {len(cues) - 1}")

    features = encoder.images(new_pictures(), decode_upright)
    texts = encoder.texts(cues)
    scores = [(texts[i] @ features[own].T).numpy() for i, own in enumerate(candidates)]
    return {**metrics.associations(scores, wanted)}


def _cue_prompt(cue: str) -> str:
    """Return WinoGAViL's prompt for a cue (DataComp eval_utils/wino_eval.py, `get_clip_prompt`)."""
    cue = cue.lower()
    return f"{'An' if cue[:1] in tuple('aeiou') else 'A'} {cue}"


_SCORERS: Final[dict[str, Callable[[Task, Path, Encoder, ImageFeatures], Metrics]]] = {
    "classification": _classification,
    "groups": _groups,
    "rare_classes": _rare_classes,
    "retrieval": _retrieval,
    "associations": _associations,
    "faces": _faces,
}
