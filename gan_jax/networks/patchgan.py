"""PatchGAN (Isola et al. 2017): a critic that scores each patch of an image independently."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from gan_jax.networks.conv_layers import Conv
from gan_jax.networks.heads import with_conditions
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    Norm,
    Normalize,
    activation,
    at_least_float32,
    centers,
    kernel_init_for,
    weight_for,
)
from gan_jax.types import Array


def receptive_field(layers: int) -> int:
    """The side in pixels of the patch behind a logit: 1, 16, 34, 70 for 0, 1, 2, 3 strided layers.

    >>> [receptive_field(layers) for layers in range(5)]
    [1, 16, 34, 70, 142]
    """
    if layers == 0:
        return 1
    side = 1 + 3 + 3  # the two last convolutions, 4 x 4 with stride 1
    for _ in range(layers):
        side = 2 * side + 2
    return side


class PatchCritic(nn.Module):
    """A critic from images `[B, H, W, C]` and conditions to `{"score": [B], "patches": [B, h, w]}`.

    The score is the mean of an image's patch logits; losses that are means over patches (least squares, logistic)
    read the head `patches`.

    Attributes:
      layers: the number of strided layers; 3 is the 70 x 70 PatchGAN, 2 has patches of 34 x 34, 1 of 16 x 16, and 0
        single pixels.
      width: channels of the first layer; deeper layers have up to 8 times as many.
      norm: see `BaseCritic`; the first layer's activations are not normalised.
      num_classes: the number of classes of labels among the conditions; images of x's size are appended to x.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation; parameters, statistics and outputs stay float32.

    Raises:
      ValueError: if the image is too small for this number of layers.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32)
    >>> out, _ = jax.eval_shape(PatchCritic(width=4).init_with_output, jax.random.key(0), x, x)
    >>> out["score"].shape, out["patches"].shape
    ((2,), (2, 30, 30))
    """

    layers: int = 3
    width: int = 64
    norm: Norm = "batch"
    num_classes: int | None = None
    kernel_init: Initializer = initializer("normal", 0.02)
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> dict[str, Array]:
        if x.ndim != 4:
            raise ValueError(f"PatchCritic takes images [B, H, W, C], got {x.shape}.")
        kernel = 4 if self.layers else 1
        h = with_conditions(x, conditions, self.num_classes)
        for place in range(self.layers + 1 if self.layers else 2):
            norm = self.norm if place > 0 else "none"
            h = self._conv(h, min(2**place, 8) * self.width, kernel, 2 if place < self.layers else 1, norm)
            h = activation("leaky_relu")(Normalize(norm, dtype=self.dtype)(h, train=train))
        patches = at_least_float32(self._conv(h, 1, kernel, 1, "none")[..., 0])
        return {"score": patches.mean((1, 2)), "patches": patches}

    def _conv(self, h: Array, features: int, kernel: int, stride: int, norm: Norm) -> Array:
        edge = (kernel - 1) // 2
        if min(h.shape[1:3]) + 2 * edge < kernel:
            raise ValueError(
                f"The image is too small for PatchCritic(layers={self.layers}), which scores patches of "
                f"{receptive_field(self.layers)} pixels: use fewer layers."
            )
        return Conv(
            features,
            kernel,
            strides=stride,
            padding=((edge, edge), (edge, edge)),
            use_bias=not centers(norm),
            weight=weight_for(self.norm),
            kernel_init=kernel_init_for(self.norm, self.kernel_init),
            dtype=self.dtype,
        )(h)
