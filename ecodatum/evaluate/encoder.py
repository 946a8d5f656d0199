"""Encodes images and prompts with one model: decoding runs ahead in threads, prompts go in batches."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.nn.functional import normalize
from torchvision.transforms import Compose, Normalize, ToTensor

from ecodatum.evaluate.sets import TestImage

#: Batches that may be decoded, or being decoded, ahead of the model.
_BATCHES_AHEAD: Final = 4
#: Images that a thread is given at a time: handing over small ones singly costs as much as decoding them.
_IMAGES_A_TASK: Final = 8

Decode = Callable[[TestImage], Image.Image]


class Encoder:
    """A model with its image transform and tokenizer; features are float32 on the CPU, of length 1."""

    def __init__(
        self,
        model: Any,
        transform: Any,
        tokenizer: Any,
        *,
        device: str,
        precision: str,
        batch_size: int,
        workers: int | None,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._device, self._batch_size = device, batch_size
        self._workers = workers or len(os.sched_getaffinity(0))
        self._dtype = open_clip.get_input_dtype(precision) or torch.float32
        self._prepare, self._collate = _halves(transform, device)
        self._classifiers: dict[tuple[int, tuple[str, ...]], torch.Tensor] = {}

    @torch.inference_mode()
    def images(self, images: Iterable[TestImage], decode: Decode) -> torch.Tensor:
        """Return the features (n, d) of images that are decoded with `decode`."""
        parts = [
            normalize(self._model.encode_image(self._collate(batch).to(self._dtype)), dim=-1).float().cpu()
            for batch in self._batches(iter(images), decode)
        ]
        return torch.cat(parts) if parts else torch.empty(0, 0)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> torch.Tensor:
        """Return the features (n, d) of texts; equal texts are encoded once, and have equal features."""
        index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        unique, parts = list(index), []
        for start in range(0, len(unique), self._batch_size):
            tokens = self._tokenizer(unique[start : start + self._batch_size]).to(self._device)
            parts.append(normalize(self._model.encode_text(tokens), dim=-1).float().cpu())
        return torch.cat(parts)[[index[text] for text in texts]]

    def classifier(self, prompts: list[str], classes: int) -> torch.Tensor:
        """Return the class vectors (d, classes): the normalised mean over each class's prompts.

        `prompts` are those of the first class, then of the second, and so on, equally many for each.
        Tasks with the same prompts share them. Source: clip-benchmark, `zero_shot_classifier`.
        """
        key = (classes, tuple(prompts))
        if key not in self._classifiers:
            vectors = self.texts(prompts).view(classes, len(prompts) // classes, -1).mean(dim=1)
            self._classifiers[key] = normalize(vectors, dim=-1).T.contiguous()
        return self._classifiers[key]

    def _batches(self, images: Iterator[TestImage], decode: Decode) -> Iterator[list[Any]]:
        """Yield batches of prepared images in order, with the next ones under way in threads."""

        def prepare(some: list[TestImage]) -> list[Any]:
            return [self._prepare(decode(image)) for image in some]

        waiting: deque[Future[list[Any]]] = deque()
        ready: list[Any] = []
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as threads:
            try:
                while True:
                    while len(waiting) * _IMAGES_A_TASK < self._batch_size * _BATCHES_AHEAD:
                        if not (some := list(islice(images, _IMAGES_A_TASK))):
                            break
                        waiting.append(threads.submit(prepare, some))
                    while waiting and len(ready) < self._batch_size:
                        ready += waiting.popleft().result()
                    if not ready:
                        return
                    yield ready[: self._batch_size]
                    ready = ready[self._batch_size :]
            finally:
                threads.shutdown(wait=False, cancel_futures=True)


def _halves(
    transform: Any, device: str
) -> tuple[Callable[[Image.Image], Any], Callable[[list[Any]], torch.Tensor]]:
    """Split open_clip's image transform: what is done to each image, and what can be done to a batch.

    The second half makes float32 (n, 3, h, w) on the device: bytes travel there, and are scaled and
    normalised by the same operations, so that the numbers are the same to the bit.
    """
    steps = transform.transforms if isinstance(transform, Compose) else []
    if len(steps) < 2 or not (isinstance(steps[-2], ToTensor) and isinstance(steps[-1], Normalize)):
        return transform, lambda tensors: torch.stack(tensors).to(device)
    resize = Compose(steps[:-2])
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1).to(device) for values in (steps[-1].mean, steps[-1].std)
    )

    def collate(pictures: list[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(255).sub_(mean).div_(std)

    return lambda image: np.asarray(resize(image)), collate
