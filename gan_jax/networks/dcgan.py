"""DCGAN (Radford, Metz & Chintala 2016) for images of any size from 8 to 128 pixels a side.

Images shrink by strided convolutions, halving and rounding up, at least twice and to at most 7 pixels, and grow
the same way back: 8 - 4 - 2, 28 - 14 - 7, 32 - 16 - 8 - 4, 128 - 64 - 32 - 16 - 8 - 4. Channels start at `width`
next to the image and double with each halving, up to 8 times the width. Of a rectangle the smaller side says how
often both are halved.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.networks.conv_layers import Conv, ConvTranspose
from gan_jax.networks.heads import BaseCritic, with_conditions
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    Activation,
    Dense,
    Dropout,
    GaussianNoise,
    Norm,
    Normalize,
    activation,
    at_least_float32,
    centers,
    kernel_init_for,
    sides,
    weight_for,
)
from gan_jax.types import Array, Size

SMALLEST, LARGEST = 8, 128


def image_sizes(size: int) -> tuple[int, ...]:
    """The sizes of an image and of its halvings: at least two, down to at most 7 pixels.

    Raises:
      ValueError: for sizes outside 8 to 128.

    >>> image_sizes(8), image_sizes(28), image_sizes(32)
    ((8, 4, 2), (28, 14, 7), (32, 16, 8, 4))
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"DCGAN takes images of {SMALLEST} to {LARGEST} pixels a side, got {size}.")
    sizes = [size]
    while sizes[-1] > 7 or len(sizes) < 3:
        sizes.append((sizes[-1] + 1) // 2)
    return tuple(sizes)


def image_shapes(size: Size) -> tuple[tuple[int, int], ...]:
    """Height and width of an image and of its halvings, as often as the smaller side is halved.

    Raises:
      ValueError: for sides outside 8 to 128.

    >>> image_shapes((32, 24))
    ((32, 24), (16, 12), (8, 6))
    """
    height, width = sides(size)
    image_sizes(max(height, width))
    shapes = [(height, width)]
    for _ in image_sizes(min(height, width))[1:]:
        shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
    return tuple(shapes)


def channel_counts(width: int, stages: int) -> tuple[int, ...]:
    """Channels after each halving: the width, doubling up to 8 times.

    >>> channel_counts(64, 5)
    (64, 128, 256, 512, 512)
    """
    return tuple(width * min(2**stage, 8) for stage in range(stages))


class DCGANGenerator(nn.Module):
    """A generator from a latent `[B, d]` and conditions to images `[B, height, width, channels]` in [-1, 1].

    Attributes:
      size: the side of square images, or (height, width), 8 to 128 pixels each.
      channels: the number of channels of the images.
      width: channels of the layer before the image; deeper layers have up to 8 times as many.
      norm: see `BaseCritic`; the last layer's activations are not normalised.
      kernel: size of the transposed convolutions.
      activation: the activation of the hidden layers.
      num_classes: the number of classes of integer labels, if the generator is conditional; they are appended to z.
      kernel_init: initialiser of the kernels, N(0, 0.02^2) as in the paper.
      dtype: the dtype of the computation.

    >>> generator = DCGANGenerator(size=8, channels=1, width=4)
    >>> import jax
    >>> z = jax.ShapeDtypeStruct((2, 16), jnp.float32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z)
    >>> out.shape
    (2, 8, 8, 1)
    """

    size: Size = 32
    channels: int = 3
    width: int = 64
    norm: Norm = "batch"
    kernel: int = 4
    activation: Activation = "relu"
    num_classes: int | None = None
    kernel_init: Initializer = initializer("normal", 0.02)
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        *larger, (base_height, base_width) = image_shapes(self.size)
        *narrower, deepest = channel_counts(self.width, len(larger))
        h = with_conditions(flatten(z), conditions, self.num_classes)
        kernel_init = kernel_init_for(self.norm, self.kernel_init)
        shared = {"weight": weight_for(self.norm), "kernel_init": kernel_init, "dtype": self.dtype}
        hidden = {"use_bias": not centers(self.norm), **shared}

        h = Dense(base_height * base_width * deepest, **hidden)(h)
        h = self._activate(h.reshape(-1, base_height, base_width, deepest), train)
        for (height, width), features in zip(larger[:0:-1], narrower[::-1], strict=True):
            h = ConvTranspose(features, self.kernel, strides=2, **hidden)(h)[:, :height, :width]
            h = self._activate(h, train)
        height, width = larger[0]
        h = ConvTranspose(self.channels, self.kernel, strides=2, **shared)(h)[:, :height, :width]
        return jnp.tanh(at_least_float32(h))

    def _activate(self, h: Array, train: bool) -> Array:
        return activation(self.activation)(Normalize(self.norm, dtype=self.dtype)(h, train=train))


class DCGANCritic(BaseCritic):
    """A critic from images `[B, H, W, C]` and conditions to the score `[B]`, or a mapping with heads.

    Attributes:
      width: channels of the first layer; deeper layers have up to 8 times as many.
      kernel: size of the convolutions.
      activation: the activation of the hidden layers.
      noise: standard deviation of Gaussian noise added to every hidden layer in training.
      dropout: the fraction of every hidden layer's units that is dropped in training.
      norm: see `BaseCritic`; as in the paper the first layer's activations are not normalised.
      kernel_init: initialiser of the kernels, N(0, 0.02^2) as in the paper.
      heads, features, num_classes, ...: see `BaseCritic`; the features are the last hidden layer, flattened.

    >>> import jax
    >>> critic = DCGANCritic(width=4, norm="layer")
    >>> x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x)
    >>> out.shape
    (2,)
    """

    width: int = 64
    kernel: int = 4
    activation: Activation = "leaky_relu"
    noise: float = 0.0
    dropout: float = 0.0
    norm: Norm = "batch"
    kernel_init: Initializer = initializer("normal", 0.02)

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Any:
        if x.ndim != 4:
            raise ValueError(f"DCGAN's critic takes images [B, H, W, C], got {x.shape}.")
        h = self.inputs(x, conditions)
        stages = len(image_shapes((x.shape[1], x.shape[2]))) - 1
        for stage, features in enumerate(channel_counts(self.width, stages)):
            norm = self.norm if stage > 0 else "none"
            h = Conv(features, self.kernel, strides=2, use_bias=not centers(norm), **self.shared())(h)
            h = Normalize(norm, dtype=self.dtype)(h, train=train)
            h = GaussianNoise(self.noise)(activation(self.activation)(h), train=train)
            h = Dropout(self.dropout)(h, train=train)
        return self.scores(flatten(h), conditions)
