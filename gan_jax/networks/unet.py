"""The U-Net of pix2pix (Isola et al. 2017), from an image to an image of the same size."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gan_jax.networks.conv_layers import Conv, ConvTranspose
from gan_jax.networks.heads import with_conditions
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    Dropout,
    Norm,
    Normalize,
    activation,
    at_least_float32,
    centers,
    kernel_init_for,
    weight_for,
)
from gan_jax.types import Array


class UNet(nn.Module):
    """A generator from an image `[B, H, W, I]` and extra inputs, if any, to `[B, H, W, channels]` in [-1, 1].

    The image shrinks by strided convolutions, rounding up, to a single pixel or by `depth` halvings, and grows back
    with skip connections from the encoder to the decoder. Exactly one input is an image; all others (a latent
    `[B, d]`, labels) enter at the bottleneck. In the paper the noise is the dropout of the first three decoder
    layers.

    Attributes:
      channels: the number of channels of the output.
      width: channels of the first layer; deeper layers have up to 8 times as many.
      depth: the number of halvings; `None` halves down to one pixel, at most 8 times.
      norm: see `BaseCritic`; the first and the innermost encoder layer's activations are not normalised.
      dropout: the rate in the first three decoder layers.
      dropout_in_evaluation: whether to apply dropout also with `train=False`, as the paper does, if there is a key.
      num_classes: the number of classes of integer labels among the inputs.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation.

    Raises:
      ValueError: without an image, with several, or if the image is too small for `depth`.

    >>> import jax
    >>> x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    >>> out, _ = jax.eval_shape(UNet(channels=3, width=4).init_with_output, jax.random.key(0), x)
    >>> out.shape
    (2, 28, 28, 3)
    """

    channels: int = 3
    width: int = 64
    depth: int | None = None
    norm: Norm = "batch"
    dropout: float = 0.5
    dropout_in_evaluation: bool = True
    num_classes: int | None = None
    kernel_init: Initializer = initializer("normal", 0.02)
    dtype: Any = None

    @nn.compact
    def __call__(self, *inputs: Array, train: bool = False) -> Array:
        image, others = _split_inputs(inputs)
        depth = self._depth(image)
        skips = [image]
        for place in range(depth):
            skips.append(self._encode(skips[-1], place, depth, train))
        h = with_conditions(skips.pop(), others, self.num_classes)
        for place in reversed(range(1, depth)):
            h = self._decode(h, skips[place].shape, place, depth, train)
            h = jnp.concatenate([h, skips[place]], axis=-1)
        out = ConvTranspose(self.channels, 4, strides=2, **self._shared())(nn.relu(h))
        return jnp.tanh(at_least_float32(out[:, : image.shape[1], : image.shape[2]]))

    def _encode(self, x: Array, place: int, depth: int, train: bool) -> Array:
        norm = self.norm if 0 < place < depth - 1 else "none"
        h = x if place == 0 else activation("leaky_relu")(x)
        h = Conv(self._features(place), 4, strides=2, use_bias=not centers(norm), **self._shared())(h)
        return Normalize(norm, dtype=self.dtype)(h, train=train)

    def _decode(self, x: Array, shape: tuple[int, ...], place: int, depth: int, train: bool) -> Array:
        features = self._features(place - 1)
        h = ConvTranspose(features, 4, strides=2, use_bias=not centers(self.norm), **self._shared())(
            nn.relu(x)
        )
        h = Normalize(self.norm, dtype=self.dtype)(h[:, : shape[1], : shape[2]], train=train)
        if place < depth - 3:
            return h
        return Dropout(self.dropout, always=self.dropout_in_evaluation)(h, train=train)

    @nn.nowrap
    def _features(self, place: int) -> int:
        return self.width * min(2**place, 8)

    @nn.nowrap
    def _depth(self, image: Array) -> int:
        # n halvings, rounding up, end at one pixel for sides up to 2^n.
        most = (max(image.shape[1:3]) - 1).bit_length()
        depth = min(most, 8) if self.depth is None else self.depth
        if not 2 <= depth <= most:
            raise ValueError(
                f"UNet(depth={self.depth}) must halve an image at least twice, and one of {image.shape[1:3]} at "
                f"most {most} times."
            )
        return depth

    @nn.nowrap
    def _shared(self) -> dict[str, Any]:
        return {
            "weight": weight_for(self.norm),
            "kernel_init": kernel_init_for(self.norm, self.kernel_init),
            "dtype": self.dtype,
        }


def _split_inputs(inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
    images = [place for place, x in enumerate(inputs) if x.ndim == 4]
    if len(images) != 1:
        raise ValueError(
            f"UNet needs exactly one image [B, H, W, C] among its inputs, got shapes {[x.shape for x in inputs]}."
        )
    return inputs[images[0]], inputs[: images[0]] + inputs[images[0] + 1 :]
