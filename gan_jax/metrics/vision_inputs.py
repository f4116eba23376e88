"""Images as the input of VGG, CLIP and DINOv2, by the rules of the programs that published scores come from.

| rule | resizing to 224 | who |
| --- | --- | --- |
| `pillow` | Pillow's bicubic of bytes, rounded after the columns and after the rows | dgm-eval, clean-fid's CLIP |
| `bicubic` | the same weights on floats, not clipped: PyTorch's bicubic with `antialias=True` | EDM2 |
| `tf` | TensorFlow 1's bilinear, source = destination * in / 224 | torch-fidelity |
| `none` | none; a network of a fixed size refuses images of another | LPIPS |
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.metrics.resize import antialiased_bicubic, tf1_bilinear
from gan_jax.types import Array

RULES = {
    "pillow": "Pillow's bicubic of bytes to {} (dgm-eval, clean-fid's CLIP)",
    "bicubic": "antialiased bicubic of floats to {} (EDM2)",
    "tf": "bilinear to {} as TensorFlow 1 (torch-fidelity)",
    "none": "none",
}
"""The rules, and how fingerprints name them, with the side of the result."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The mean and standard deviation of ImageNet's channels in [0, 1], with which torchvision's and DINOv2's networks
were trained."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Those of CLIP's training images."""


@dataclasses.dataclass(frozen=True)
class VisionInput:
    """A function from images `[B, H, W, C]` in [-1, 1] to a network's input `[B, size, size, 3]`.

    One channel is repeated to three.

    Attributes:
      rule: a name of `RULES`.
      size: the side of the result.
      statistics: the mean and standard deviation of the channels in [0, 1] that the network expects.
      cropped: whether images that are not square are resized to `size` along their shorter side and cropped in the
        centre, as torchvision's `Resize(size)` and `CenterCrop(size)`; otherwise they lose their proportions.

    Raises:
      ValueError: for an unknown rule.

    >>> take = VisionInput("bicubic", 4, IMAGENET)
    >>> take(jnp.ones((1, 8, 8, 1))).shape, take.resize
    ((1, 4, 4, 3), 'antialiased bicubic of floats to 4 (EDM2)')
    """

    rule: str
    size: int
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    cropped: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"Unknown resize {self.rule!r}: one of {', '.join(RULES)}.")

    @property
    def resize(self) -> str:
        """A description for fingerprints."""
        return RULES[self.rule].format(self.size)

    def __call__(self, images: Array) -> Array:
        if images.shape[3] == 1:
            images = jnp.repeat(images, 3, axis=3)
        mean, deviation = (np.asarray(numbers, np.float32) for numbers in self.statistics)
        return ((self._resized(images) + 1) / 2 - mean) / deviation

    def _resized(self, images: Array) -> Array:
        if self.rule == "none":
            return images
        if not self.cropped:
            return resized(images, (self.size, self.size), self.rule)
        height, width = images.shape[1:3]
        # In whole numbers, as torchvision rounds the longer side down.
        sides = [self.size * side // min(height, width) for side in (height, width)]
        top, left = (round((side - self.size) / 2) for side in sides)
        whole = resized(images, (sides[0], sides[1]), self.rule)
        return whole[:, top : top + self.size, left : left + self.size]


def resized(images: Array, size: tuple[int, int], rule: str) -> Array:
    """Images `[B, H, W, C]` in [-1, 1] as `[B, *size, C]` by a rule; images of that size pass unchanged."""
    if images.shape[1:3] == size:
        return images
    matrix = tf1_bilinear if rule == "tf" else antialiased_bicubic
    down, across = (
        jnp.asarray(matrix(given, out), jnp.float32)
        for given, out in zip(images.shape[1:3], size, strict=True)
    )
    multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    if rule == "pillow":
        images = _bytes(multiply("pw,bhwc->bhpc", across, jnp.round((images + 1) * 127.5)))
        return _bytes(multiply("oh,bhpc->bopc", down, images)) / 127.5 - 1
    return multiply("oh,bhpc->bopc", down, multiply("pw,bhwc->bhpc", across, images))


def _bytes(levels: Array) -> Array:
    return jnp.clip(jnp.floor(levels + 0.5), 0, 255)


def torch_bicubic(size: int, out: int, scale: float) -> np.ndarray:
    """PyTorch's cubic matrix `[out, size]` without antialiasing, a = -3/4, the border repeated.

    Args:
      size, out: the numbers of entries before and after.
      scale: entries of the input an entry of the output, `size / out` unless the caller of PyTorch sets it.

    >>> torch_bicubic(2, 4, 0.5)[1].round(4).tolist()
    [0.7734, 0.2266]
    """
    source = (np.arange(out) + 0.5) * scale - 0.5
    low = np.floor(source).astype(int)
    matrix = np.zeros((out, size))
    for tap in range(-1, 3):
        column = np.clip(low + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(out), column), _cubic(low + tap - source))
    return matrix


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys's cubic convolution kernel (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
