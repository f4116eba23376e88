"""How images become the input of the Inception network in published Frechet inception distances.

Each protocol resizes along both axes by a matrix `[out, in]` and maps grey levels to the network's range:

    pytorch   pytorch-fid: bilinear about half-pixel centres, no antialiasing; x / 127.5 - 1
    tf        NVIDIA's networks, torch-fidelity, ADM: bilinear of TensorFlow 1, source = destination * in / out;
              (x - 128) / 128
    clean     clean-fid: Pillow's antialiased bicubic of every channel as floats, clipped to [0, 255];
              (x - 128) / 128

Scores of different protocols are not comparable: by the two bilinear ones a resized image of 32 pixels differs by
several grey levels on average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.types import Array

SIZE = 299
"""The height and width of Inception's input."""
_CUBIC = -0.5
"""The slope of Pillow's cubic at distance 1."""


def half_pixel_bilinear(size: int, out: int) -> np.ndarray:
    """The matrix `[out, size]` of `source = (destination + 1/2) size / out - 1/2`, without antialiasing.

    >>> half_pixel_bilinear(2, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    return _between_neighbors((np.arange(out) + 0.5) * size / out - 0.5, size)


def tf1_bilinear(size: int, out: int) -> np.ndarray:
    """The matrix `[out, size]` of `source = destination * size / out`, TensorFlow 1 without aligned corners.

    >>> tf1_bilinear(2, 4).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    """
    return _between_neighbors(np.arange(out) * size / out, size)


def _between_neighbors(source: np.ndarray, size: int) -> np.ndarray:
    """Rows that interpolate linearly at `source`; beyond the edges the edge is repeated."""
    inside = np.clip(source, 0, size - 1)
    low = np.floor(inside).astype(int)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((len(source), size))
    rows = np.arange(len(source))
    matrix[rows, low] += 1 - (inside - low)
    matrix[rows, high] += inside - low
    return matrix


def antialiased_bicubic(size: int, out: int) -> np.ndarray:
    """The matrix `[out, size]` of Pillow's `BICUBIC`: a cubic that widens where the image shrinks.

    >>> np.round(antialiased_bicubic(4, 2), 4).tolist()
    [[0.4587, 0.4587, 0.1198, -0.0372], [-0.0372, 0.1198, 0.4587, 0.4587]]
    """
    scale = size / out
    width = max(scale, 1.0)
    centres = (np.arange(out)[:, None] + 0.5) * scale
    places = np.arange(size)[None, :] + 0.5
    # The bounds as Pillow rounds them; the cubic is 0 beyond.
    first, last = np.floor(centres - 2 * width + 0.5), np.floor(centres + 2 * width + 0.5)
    inside = (places - 0.5 >= first) & (places - 0.5 < last)
    matrix = np.where(inside, _cubic((places - centres) / width), 0.0)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution kernel (1981)."""
    x = np.abs(x)
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * _CUBIC
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How images become the network's input.

    Attributes:
      name: its name on the command line and in fingerprints.
      resize: a description of the resizing and of the range.
      matrix: `(size, out) -> [out, size]`, the resizing along one axis.
      middle: the grey level that becomes 0; the network sees `(x - middle) / middle`.
      clipped: whether resized levels are clipped to [0, 255].
    """

    name: str
    resize: str
    matrix: Callable[[int, int], np.ndarray]
    middle: float
    clipped: bool = False

    def __call__(self, images: Array, size: int = SIZE) -> Array:
        """Images `[B, H, W, C]` in [-1, 1] as the network's input `[B, size, size, 3]`.

        One channel is repeated to three; images of that size are not resized.
        """
        if images.shape[3] == 1:
            images = jnp.repeat(images, 3, axis=3)
        if images.shape[1:3] != (size, size):
            rows, columns = (jnp.asarray(self.matrix(side, size), jnp.float32) for side in images.shape[1:3])
            highest = jax.lax.Precision.HIGHEST
            images = jnp.einsum("oh,bhwc->bowc", rows, images, precision=highest)
            images = jnp.einsum("pw,bowc->bopc", columns, images, precision=highest)
        levels = (images + 1) * 127.5
        if self.clipped:
            levels = jnp.clip(levels, 0, 255)
        return (levels - self.middle) / self.middle


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="pytorch",
            resize="bilinear to 299 about half-pixel centres, no antialiasing; x / 127.5 - 1 (pytorch-fid)",
            matrix=half_pixel_bilinear,
            middle=127.5,
        ),
        Protocol(
            name="tf",
            resize="bilinear to 299 as TensorFlow 1; (x - 128) / 128 (NVIDIA, torch-fidelity, ADM)",
            matrix=tf1_bilinear,
            middle=128.0,
        ),
        Protocol(
            name="clean",
            resize="Pillow's bicubic to 299 of float channels, clipped; (x - 128) / 128 (clean-fid)",
            matrix=antialiased_bicubic,
            middle=128.0,
            clipped=True,
        ),
    )
}
"""The protocols by name."""


def protocol_named(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
      ValueError: if there is none of this name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
