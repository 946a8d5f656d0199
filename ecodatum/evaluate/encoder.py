"""Encodes images and prompts with one model: decoding runs ahead in threads, prompts go in batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

from ecodatum.evaluate.sets import TestImage

#: Batches that may be decoded, or being decoded, ahead of the model.
_BATCHES_AHEAD = 4

Decode = Callable[[TestImage], Image.Image]


class Encoder:
    """A model with its image transform and tokenizer; features are float32 on the CPU, of length 1."""

    def __init__(
        self, model: Any, transform: Any, tokenizer: Any, *, device: str, batch_size: int, workers: int
    ) -> None:
        self._model, self._transform, self._tokenizer = model, transform, tokenizer
        self._device, self._batch_size, self._workers = device, batch_size, max(1, workers)
        self._dtype = next(model.parameters()).dtype
        self._classifiers: dict[tuple[int, tuple[str, ...]], torch.Tensor] = {}

    @torch.inference_mode()
    def images(self, images: Iterable[TestImage], decode: Decode) -> torch.Tensor:
        """Return the features (n, d) of images that are decoded with `decode`."""
        parts = [
            normalize(self._model.encode_image(batch.to(self._device, self._dtype)), dim=-1).float().cpu()
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

    def _batches(self, images: Iterator[TestImage], decode: Decode) -> Iterator[torch.Tensor]:
        """Yield transformed batches in order, with the next ones under way in threads."""

        def prepare(image: TestImage) -> torch.Tensor:
            return self._transform(decode(image))  # type: ignore[no-any-return]

        waiting: deque[Future[torch.Tensor]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as threads:
            try:
                while True:
                    wanted = self._batch_size * _BATCHES_AHEAD - len(waiting)
                    waiting.extend(threads.submit(prepare, image) for image in islice(images, wanted))
                    if not waiting:
                        return
                    count = min(self._batch_size, len(waiting))
                    yield torch.stack([waiting.popleft().result() for _ in range(count)])
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
