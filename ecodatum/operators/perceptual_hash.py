"""A hash of what an image looks like: copies that were re-encoded or resized differ in few of its bits."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from ecodatum.operators.operator import Column, ImageBatch, ImageOperator, Scores

_SIDE = 32  # the image is looked at in this size
_KEPT = 8  # and this many of the lowest frequencies each way
_LAST = 2**64 - 1


class PerceptualHash(ImageOperator):
    """The pHash of an image, equal to `imagehash.phash` with its defaults.

    Bit by bit, row after row from the highest, whether a low frequency's coefficient lies above their
    median. Nearly always half of the bits are set, so hashes differ in an even number of bits. Plain
    images of any colour have nearly the same hash.
    """

    name = "perceptual_hash"
    version = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The hash as one integer: its hexadecimal digits are those that imagehash prints."""
        return (Column("phash", pa.uint64(), "64 bits; compare them with the Hamming distance", 0, _LAST),)

    def view(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the image as a small grey one, (32, 32)."""
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        return np.asarray(small)

    def score(self, batch: ImageBatch) -> Scores:
        """Hash a batch of small images at once."""
        return self.scores({"phash": phashes(np.stack(batch.views))})


def phashes(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the pHash of grey images, (n, 32, 32), as (n,) uint64; the source is imagehash's `phash`."""
    from scipy.fft import dct

    frequencies = dct(dct(pixels.astype(np.float64), axis=1), axis=2)[:, :_KEPT, :_KEPT].reshape(-1, _KEPT**2)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()
