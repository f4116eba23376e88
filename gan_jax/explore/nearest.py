"""The training images nearest to a sample."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gan_jax.pictures.grids import to_png, to_uint8

_BLOCK = 1000
MOST_STORED = 5_000
"""Training images of a static folder at most."""
_STORED_BYTES = 2**25
_STORED_SIDE = 64


class TrainingImages:
    """Training images, compared with samples by their pixels or by features.

    Args:
      images: `[N, H, W, C]` in [-1, 1].
      features: `images [n, H, W, C] -> [n, D]`, those of the critic; `None` where it has none.
    """

    def __init__(self, images: np.ndarray, features: Callable[[np.ndarray], np.ndarray] | None = None):
        self._images = images
        self._by = {"pixels": lambda x: x.reshape(len(x), -1)}
        if features is not None:
            self._by["features"] = features
        self._rows: dict[str, np.ndarray] = {}

    def nearest(self, image: np.ndarray, count: int = 6, by: str = "pixels") -> list[dict[str, Any]]:
        """The nearest images, the nearest first.

        Args:
          image: `[H, W, C]` in [-1, 1].
          count: how many.
          by: `pixels` (the root mean square difference in levels of 255) or `features` (Euclidean).

        Returns:
          For each its `index` in the order in which training reads, the `distance`, and a `png` as a data URL.

        Raises:
          ValueError: if images cannot be compared so.

        >>> black, white = -np.ones((1, 2, 2, 1)), np.ones((1, 2, 2, 1))
        >>> found = TrainingImages(np.concatenate([black, white])).nearest(white[0], count=2)
        >>> [(entry["index"], round(entry["distance"], 1)) for entry in found]
        [(1, 0.0), (0, 255.0)]
        """
        if by not in self._by:
            raise ValueError(f"Images are compared by {' or '.join(self._by)}, got {by[:40]!r}.")
        if by not in self._rows:
            self._rows[by] = self._by[by](self._images).astype(np.float32)
        rows, wanted = self._rows[by], self._by[by](image[None]).astype(np.float32)
        squared = np.concatenate(
            [np.square(rows[i : i + _BLOCK] - wanted).sum(axis=1) for i in range(0, len(rows), _BLOCK)]
        )
        scale = 127.5 / np.sqrt(rows.shape[1]) if by == "pixels" else 1.0
        return [
            {"index": int(i), "distance": float(np.sqrt(squared[i]) * scale), "png": _url(self._images[i])}
            for i in np.argsort(squared, kind="stable")[:count]
        ]


class Stored(NamedTuple):
    """Training images for a static folder.

    Attributes:
      levels: `[N, h, w, C]` uint8, averaged over boxes.
      factor: the side of a box, in pixels of a sample.
    """

    levels: np.ndarray
    factor: int


def stored_images(images: np.ndarray, most: int = MOST_STORED) -> Stored:
    """The first of the training images, at most 32 MiB of them, for a page that compares them with samples.

    Images above 64 pixels are averaged over boxes that bring them to at most 64, where such boxes fill them.

    Args:
      images: `[N, H, W, C]` in [-1, 1].
      most: the largest number of images.

    >>> stored = stored_images(np.zeros((7, 128, 192, 3), np.float32), most=5)
    >>> stored.levels.shape, stored.factor
    ((5, 32, 48, 3), 4)
    """
    _, height, width, channels = images.shape
    common = math.gcd(height, width)
    enough = [n for n in range(1, common + 1) if common % n == 0 and max(height, width) / n <= _STORED_SIDE]
    factor = min(enough, default=common)
    rows, columns = height // factor, width // factor
    number = min(most, len(images), max(1, _STORED_BYTES // (rows * columns * channels)))
    parts = images[:number].reshape(number, rows, factor, columns, factor, channels)
    return Stored(to_uint8(parts.mean(axis=(2, 4))), factor)


def _url(image: np.ndarray) -> str:
    levels = to_uint8(image)
    shown = levels if levels.shape[2] in (1, 3) else levels[..., : 1 if levels.shape[2] == 2 else 3]
    return f"data:image/png;base64,{base64.b64encode(to_png(shown)).decode()}"
