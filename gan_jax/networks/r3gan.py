"""The networks of R3GAN (Huang et al. 2024): residual blocks of grouped convolutions without any normalisation.

    block(x) = x + W3 * a(b2 + W2 *g a(b1 + W1 * x)),   a(x) = max(x, 0.2 x)

W1 and W3 are 1 x 1, from C channels to 2 C and back, W2 is 3 x 3 in groups of `group_size` channels. W3 is zero at
first, so that every block begins as the identity; W1 and W2 begin at N(0, gain^2 / fan in), where
gain = sqrt(2 / 1.04) L^(-1/4), L is the number of a network's blocks (Fixup: Zhang et al. 2019), and the 1.04 =
1 + 0.2^2 is the leaky ReLU's. Between stages an image is resampled by [1, 3, 3, 1] / 8 along either axis, with a
1 x 1 convolution where the widths differ. It stands on the smaller image, since it commutes with resampling.

Images are square with a side of 4 to 7 times a power of two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.functional.channels import materialize, over_channels
from gan_jax.networks.conv_layers import Conv
from gan_jax.networks.heads import condition_vector
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import Dense, at_least_float32
from gan_jax.networks.resampling import fir_downsample, fir_upsample
from gan_jax.types import Array

SLOPE = 0.2
"""Of the leaky ReLU for negative numbers."""
LINEAR: Initializer = initializer("fan_in")
"""N(0, 1 / fan in): of layers without an activation after them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """The sizes of a pair of networks of the paper.

    Attributes:
      size: the side of the images in pixels.
      width: channels of all stages, or of each, from the smallest image to the largest.
      blocks: residual blocks of a stage.
      group_size: channels in a group of the 3 x 3 convolutions.
      latent: the size of z.
    """

    size: int
    width: int | tuple[int, ...] = 768
    blocks: int = 2
    group_size: int = 16
    latent: int = 64


PRESETS: Mapping[str, Preset] = {
    "cifar10": Preset(size=32),
    "ffhq64": Preset(size=64),
    "ffhq256": Preset(size=256, width=(768, 768, 768, 768, 384, 192, 96)),
    "imagenet32": Preset(size=32, width=1536, group_size=32),
    "imagenet64": Preset(size=64, width=1536, group_size=32),
}
"""The paper's networks by data set; `image_schedules.SCHEDULES` has how each is trained."""


def stage_sizes(size: int) -> tuple[int, ...]:
    """The sizes of the images of all stages, the smallest, 4 to 7 pixels, first.

    Raises:
      ValueError: for a size that is not 4 to 7 times a power of two.

    >>> stage_sizes(32), stage_sizes(28)
    ((4, 8, 16, 32), (7, 14, 28))
    """
    sizes = [size]
    while sizes[0] % 2 == 0 and sizes[0] > 7:
        sizes.insert(0, sizes[0] // 2)
    if not 4 <= sizes[0] <= 7:
        raise ValueError(
            f"R3GAN's networks take images with a side of 4 to 7 times a power of two (16, 24, 28, 32, 64, 256), "
            f"got {size}."
        )
    return tuple(sizes)


def stage_widths(width: int | Sequence[int], stages: int) -> tuple[int, ...]:
    """The number of channels of every stage, from one number or a sequence of one for each.

    Raises:
      ValueError: if the sequence has another length.

    >>> stage_widths(768, 4)
    (768, 768, 768, 768)
    """
    widths = stages * (width,) if isinstance(width, int) else tuple(width)
    if len(widths) != stages:
        raise ValueError(
            f"The image has {stages} stages, so width is a number or a sequence of {stages}, smallest image first; "
            f"got {tuple(widths)}."
        )
    return widths


class R3GANBlock(nn.Module):
    """A residual block, `[B, H, W, C]` to the same shape; see the module.

    Attributes:
      blocks: L, the number of blocks of the whole network.
      group_size: channels in a group of the 3 x 3 convolution; with fewer channels there is one group.
      expansion: how many times wider the block is inside.
      dtype: the dtype of the computation.

    Raises:
      ValueError: if the groups do not divide the channels.
    """

    blocks: int = 1
    group_size: int = 16
    expansion: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        inside = self.expansion * channels
        size = min(self.group_size, inside)
        if inside % size:
            raise ValueError(f"Groups of {size} channels do not divide the {inside} channels inside a block.")
        gain = math.sqrt(2 / (1 + SLOPE**2)) * self.blocks**-0.25
        shared: dict[str, Any] = {"use_bias": False, "dtype": self.dtype}
        init = initializer("fan_in", gain)
        h = Conv(inside, 1, kernel_init=init, name="widen", **shared)(x)
        h = Conv(inside, 3, groups=inside // size, kernel_init=init, name="spatial", **shared)(
            self._activate(h, "widen_bias")
        )
        h = Conv(channels, 1, kernel_init=nn.initializers.zeros_init(), name="narrow", **shared)(
            self._activate(h, "spatial_bias")
        )
        return x + h

    def _activate(self, h: Array, name: str) -> Array:
        bias = self.param(name, nn.initializers.zeros_init(), (h.shape[-1],))
        return nn.leaky_relu(materialize(h + over_channels(bias.astype(h.dtype), h.shape)), SLOPE)


class _Stages(nn.Module):
    """What both networks have: their widths, blocks and convolutions without bias."""

    width: int | Sequence[int] = 768
    blocks: int = 2
    group_size: int = 16
    num_classes: int | None = None
    dtype: Any = None

    def _blocks(self, x: Array, stages: int) -> Array:
        for _ in range(self.blocks):
            x = R3GANBlock(stages * self.blocks, self.group_size, dtype=self.dtype)(x)
        return x

    def _linear_conv(self, x: Array, features: int, name: str, **options: Any) -> Array:
        layer = Conv(
            features,
            **{"kernel_size": 1, **options},
            use_bias=False,
            kernel_init=LINEAR,
            dtype=self.dtype,
            name=name,
        )
        return layer(x)


class R3GANGenerator(_Stages):
    """A generator from a latent `[B, d]` and conditions to images `[B, size, size, channels]`.

    A linear function of the latent scales a learned basis `[4, 4, C]`. A label is embedded in d numbers beside the
    latent. Nothing bounds the images, as in the paper; data in [-1, 1] do.

    Attributes:
      size: the side of the images in pixels.
      channels: the number of channels of the images.
      width: channels of all stages, or of each, from the smallest image to the largest.
      blocks: residual blocks of a stage.
      group_size: channels in a group of the 3 x 3 convolutions, see `R3GANBlock`.
      num_classes: the number of classes of integer labels, if the generator is conditional.
      dtype: the dtype of the computation; parameters and images are float32.

    Raises:
      ValueError: for an impossible size or width.

    References:
      Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024 (arXiv:2501.05441).

    >>> generator = R3GANGenerator(size=16, channels=1, width=8, num_classes=10)
    >>> z, y = jax.ShapeDtypeStruct((2, 16), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z, y)
    >>> out.shape
    (2, 16, 16, 1)
    """

    size: int = 32
    channels: int = 3

    @nn.compact
    def __call__(self, z: Array, *conditions: Array) -> Array:
        sizes = stage_sizes(self.size)
        widths = stage_widths(self.width, len(sizes))
        h = flatten(z)
        if (condition := condition_vector(conditions, self.num_classes)) is not None:
            embedding = Dense(
                h.shape[-1], use_bias=False, kernel_init=LINEAR, dtype=self.dtype, name="embedding"
            )
            h = jnp.concatenate([h, embedding(condition).astype(h.dtype)], axis=-1)
        scale = Dense(widths[0], use_bias=False, kernel_init=LINEAR, dtype=self.dtype, name="latent")(h)
        shape = (sizes[0], sizes[0], widths[0])
        basis = self.param("basis", initializer("normal"), shape)
        h = scale[:, None, None, :] * basis.astype(scale.dtype)
        for stage, width in enumerate(widths):
            if stage:
                if width != h.shape[-1]:
                    h = self._linear_conv(h, width, f"transition_{stage}")
                h = fir_upsample(h)
            h = self._blocks(h, len(sizes))
        return at_least_float32(self._linear_conv(h, self.channels, "image"))


class R3GANCritic(_Stages):
    """A critic from images `[B, H, H, C]` and conditions to the score `[B]`, or a mapping with heads.

    A depthwise convolution over the smallest image makes a vector h, and a linear function of h is the score. With
    a label the score is the dot product of a linear function of h and an embedding of the label, both of h's size;
    the embedding is initialised at N(0, 1 / (size classes)), which keeps the score's scale.

    Attributes:
      width: channels of all stages, or of each, from the smallest image to the largest.
      blocks: residual blocks of a stage.
      group_size: channels in a group of the 3 x 3 convolutions, see `R3GANBlock`.
      num_classes: the number of classes of integer labels, if the critic is conditional.
      dtype: the dtype of the computation; parameters and scores are float32.
      heads: name -> size of a linear head `[B, size]` of h.
      features: whether to return h as the head `features`.
      score_from: name of the head whose `logsumexp` is the score, see `BaseCritic`.

    Raises:
      ValueError: for images of an impossible size.

    References:
      Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024 (arXiv:2501.05441).

    >>> critic = R3GANCritic(width=8, num_classes=10)
    >>> x, y = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x, y)
    >>> out.shape
    (2,)
    """

    heads: Mapping[str, int] | None = None
    features: bool = False
    score_from: str | None = None

    @nn.compact
    def __call__(self, x: Array, *conditions: Array) -> Any:
        if x.ndim != 4 or x.shape[1] != x.shape[2]:
            raise ValueError(f"The R3GAN critic takes square images [B, H, H, C], got {x.shape}.")
        sizes = stage_sizes(x.shape[1])
        widths = stage_widths(self.width, len(sizes))
        h = self._linear_conv(x, widths[-1], "image")
        for stage in reversed(range(len(sizes))):
            h = self._blocks(h, len(sizes))
            if stage:
                h = fir_downsample(h)
                if widths[stage - 1] != h.shape[-1]:
                    h = self._linear_conv(h, widths[stage - 1], f"transition_{stage}")
        channels = h.shape[-1]
        h = self._linear_conv(h, channels, "basis", kernel_size=sizes[0], padding="VALID", groups=channels)
        return self._outputs(h.reshape(-1, channels), condition_vector(conditions, self.num_classes))

    def _outputs(self, h: Array, condition: Array | None) -> Any:
        extra = {"features": at_least_float32(h)} if self.features else {}
        for name, size in (self.heads or {}).items():
            extra[name] = at_least_float32(Dense(size, dtype=self.dtype, name=name)(h))
        if self.score_from is None:
            score = self._score(h, condition)
        elif self.score_from in extra:
            score = jax.nn.logsumexp(extra[self.score_from], axis=-1)
        else:
            raise ValueError(f"score_from={self.score_from!r} names no head; the heads are {sorted(extra)}.")
        return {"score": score, **extra} if extra else score

    def _score(self, h: Array, condition: Array | None) -> Array:
        def linear(size: int, name: str, gain: float = 1.0) -> Dense:
            init = initializer("fan_in", gain)
            return Dense(size, use_bias=False, kernel_init=init, dtype=self.dtype, name=name)

        if condition is None:
            return at_least_float32(linear(1, "score")(h)[:, 0])
        size = h.shape[-1]
        judged = at_least_float32(linear(size, "score")(h))
        embedded = linear(size, "embedding", 1 / math.sqrt(size))(condition)
        return jnp.sum(judged * at_least_float32(embedded), axis=-1)
