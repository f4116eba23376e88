"""Residual networks of WGAN-GP (Gulrajani et al. 2017) and SNGAN (Miyato et al. 2018), with SAGAN's attention and
BigGAN's conditioning.

Images have a side of 4 to 7 times a power of two, from 8 to 128: 8, 16, 28, 32, 48, 64, 96, 128. Of a rectangle
this is the smaller side, which says what the blocks are, and the larger one is halved as often. Up to 32 pixels
every block has `width` channels, as in both papers for CIFAR-10; above, channels start at `width` next to the image
and double with each halving, up to 16 times the width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.networks.conv_layers import Conv, ConvMeanPool, UpsampleConv
from gan_jax.networks.heads import BaseCritic, condition_vector
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    ConditionalBatchNorm,
    Dense,
    Norm,
    Normalize,
    at_least_float32,
    batch_groups,
    kernel_init_for,
    sides,
    weight_for,
)
from gan_jax.types import Array, Size

SMALLEST, LARGEST = 8, 128
SMALL = 32
"""Up to this size the networks are those of the papers for CIFAR-10."""


def halved_sizes(size: int, base: int = 7) -> tuple[int, ...]:
    """The sizes from `size` down to at most `base` by halving, at least once.

    Raises:
      ValueError: for a size that is not 4 to 7 times a power of two, or outside 8 to 128.

    >>> halved_sizes(28), halved_sizes(64)
    ((28, 14, 7), (64, 32, 16, 8, 4))
    """
    sizes = [size]
    while sizes[-1] % 2 == 0 and (sizes[-1] > base or len(sizes) == 1):
        sizes.append(sizes[-1] // 2)
    if not SMALLEST <= size <= LARGEST or not 4 <= sizes[-1] <= max(base, 7):
        raise ValueError(
            f"ResNets take images with a side of 4 to 7 times a power of two, {SMALLEST} to {LARGEST} "
            f"(8, 16, 28, 32, 48, 64, 96, 128), got {size}."
        )
    return tuple(sizes)


def stage_channels(size: int, width: int, stages: int) -> tuple[int, ...]:
    """The number of channels at each stage, the largest image first.

    >>> stage_channels(32, 128, 3), stage_channels(128, 64, 5)
    ((128, 128, 128), (64, 128, 256, 512, 1024))
    """
    return tuple(width * (min(2**stage, 16) if size > SMALL else 1) for stage in range(stages))


def upsample(x: Array) -> Array:
    """Doubles height and width by repeating each pixel four times.

    >>> upsample(jnp.arange(2.0).reshape(1, 1, 2, 1))[0, :, :, 0]
    Array([[0., 0., 1., 1.],
           [0., 0., 1., 1.]], dtype=float32)
    """
    batch, height, width, channels = x.shape
    shape = (batch, height, 2, width, 2, channels)
    return jnp.broadcast_to(x[:, :, None, :, None], shape).reshape(batch, 2 * height, 2 * width, channels)


def downsample(x: Array) -> Array:
    """Halves height and width by the mean of each 2 x 2 pixels.

    >>> downsample(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    Array([1.5], dtype=float32)
    """
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class SelfAttention(nn.Module):
    """Self-attention over all pixels with a residual connection (Zhang et al. 2019, equations 1 to 3).

    It maps `[B, H, W, C]` to the same shape. The gain is initialised at zero, so that the layer is the identity.

    Attributes:
      weight, kernel_init, dtype: arguments of the 1 x 1 convolutions, see `Conv`.
    """

    weight: Callable[[], nn.Module] | None = None
    kernel_init: Initializer = initializer("glorot")
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        inner = max(1, channels // 8)
        shared = {"weight": self.weight, "kernel_init": self.kernel_init, "dtype": self.dtype}

        def pixels(name: str) -> Array:
            projected = Conv(inner, 1, use_bias=False, name=name, **shared)(x)
            return projected.reshape(batch, height * width, inner)

        logits = jnp.einsum("bqc,bkc->bqk", pixels("query"), pixels("key"))
        weights = jax.nn.softmax(at_least_float32(logits), axis=-1).astype(x.dtype)
        attended = jnp.einsum("bqk,bkc->bqc", weights, pixels("value")).reshape(batch, height, width, inner)
        gain = self.param("gain", nn.initializers.zeros_init(), ())
        return x + gain.astype(x.dtype) * Conv(channels, 1, use_bias=False, name="out", **shared)(attended)


def generator_sizes(size: int) -> tuple[int, ...]:
    """The sizes of the outputs of the generator's blocks, the image first.

    >>> generator_sizes(32), generator_sizes(8)
    ((32, 16, 8), (8,))
    """
    return halved_sizes(size)[:-1]


def critic_sizes(size: int) -> tuple[int, ...]:
    """The sizes of the outputs of the critic's halving blocks for an image.

    >>> critic_sizes(32), critic_sizes(8), critic_sizes(64)
    ((16, 8), (4,), (32, 16, 8, 4))
    """
    return halved_sizes(size, base=8 if size <= SMALL else 7)[1:]


def divided(size: Size, halvings: int) -> tuple[int, int]:
    """Height and width after so many halvings.

    Raises:
      ValueError: if they do not divide both.

    >>> divided((48, 64), 3)
    (6, 8)
    """
    height, width = sides(size)
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(
            f"A ResNet halves both sides {halvings} times, as the smaller one asks for, and {height} x {width} is "
            f"not divisible by {2**halvings}."
        )
    return height // 2**halvings, width // 2**halvings


def _check_attention(player: str, attention: Sequence[int], sizes: Sequence[int]) -> None:
    if unknown := set(attention) - set(sizes):
        raise ValueError(
            f"attention at {sorted(unknown)}, but the {player}'s blocks have outputs of {sorted(sizes)} pixels."
        )


class ResNetGenerator(nn.Module):
    """A generator from a latent `[B, d]` and conditions to images `[B, height, width, channels]` in [-1, 1].

    Attributes:
      size: the side of square images in pixels, or (height, width).
      channels: the number of channels of the images.
      width: channels next to the image; 128 (WGAN-GP) or 256 (SNGAN) for 32 pixels, 64 for larger images.
      norm: see `BaseCritic`; `batch+spectral` is SAGAN's.
      attention: sizes (of the smaller side) at which self-attention follows the block.
      num_classes: the number of classes of integer labels, if the generator is conditional.
      conditioning: `norm` makes the batch normalisations conditional, `concat` appends conditions to z, `shared` is
        BigGAN's: conditions are embedded once for all blocks, and z is split into as many equal parts as there are
        blocks and one more, which takes the remainder. That is the first layer's input; each other part and the
        embedding are the condition of a block's batch normalisations. Without conditions only the parts are.
      embedding: with `shared`, the size of the embedding.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation.

    Raises:
      ValueError: for an impossible size or attention, conditional norms other than batch normalisation, or a latent
        with fewer numbers than parts.

    References:
      Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019, section 3 and
      appendix B (arXiv:1809.11096).

    >>> generator = ResNetGenerator(size=8, channels=1, width=4, num_classes=10)
    >>> z, y = jax.ShapeDtypeStruct((2, 16), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z, y)
    >>> out.shape
    (2, 8, 8, 1)
    """

    size: Size = 32
    channels: int = 3
    width: int = 128
    norm: Norm = "batch"
    attention: Sequence[int] = ()
    num_classes: int | None = None
    conditioning: str = "norm"
    embedding: int = 128
    kernel_init: Initializer = initializer("glorot")
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        smaller_side = min(sides(self.size))
        larger = generator_sizes(smaller_side)
        height, width = divided(self.size, len(larger))
        _check_attention("generator", self.attention, larger)
        counts = stage_channels(smaller_side, self.width, len(larger))
        h, block_conditions = self._conditions(
            flatten(z), condition_vector(conditions, self.num_classes), len(larger)
        )
        h = Dense(height * width * counts[-1], **self._shared())(h).reshape(-1, height, width, counts[-1])
        for size, features, condition in zip(
            reversed(larger), reversed(counts), block_conditions, strict=True
        ):
            h = self._block(h, features, condition, train)
            if size in self.attention:
                h = SelfAttention(**self._shared())(h)
        h = nn.relu(Normalize(self.norm, dtype=self.dtype)(h, train=train))
        return jnp.tanh(at_least_float32(Conv(self.channels, 3, **self._shared())(h)))

    def _conditions(
        self, z: Array, condition: Array | None, blocks: int
    ) -> tuple[Array, Sequence[Array | None]]:
        """The input of the first layer `[B, D]`, and the condition of each block's norms."""
        if self.conditioning not in ("norm", "concat", "shared"):
            raise ValueError(f"Unknown conditioning {self.conditioning!r}: use 'norm', 'concat' or 'shared'.")
        conditional_norms = self.conditioning == "shared" or (
            self.conditioning == "norm" and condition is not None
        )
        if conditional_norms and batch_groups(self.norm) is None:
            raise ValueError(
                f"Conditional norms are batch norms, got norm={self.norm!r}: use conditioning='concat'."
            )
        if self.conditioning == "shared":
            return self._split(z, condition, blocks)
        if condition is not None and not conditional_norms:
            z, condition = jnp.concatenate([z, condition.astype(z.dtype)], axis=-1), None
        return z, blocks * [condition]

    def _split(self, z: Array, condition: Array | None, blocks: int) -> tuple[Array, Sequence[Array]]:
        size = z.shape[-1] // (blocks + 1)
        if not size:
            raise ValueError(
                f"conditioning='shared' splits z into {blocks + 1} parts, and z has {z.shape[-1]} numbers."
            )
        first, *parts = jnp.split(z, [z.shape[-1] - n * size for n in range(blocks, 0, -1)], axis=-1)
        if condition is None:
            return first, parts
        init = kernel_init_for(self.norm, self.kernel_init)
        embed = Dense(self.embedding, use_bias=False, kernel_init=init, dtype=self.dtype, name="embedding")
        embedded = embed(condition).astype(z.dtype)
        return first, [jnp.concatenate([embedded, part], axis=-1) for part in parts]

    def _block(self, x: Array, features: int, condition: Array | None, train: bool) -> Array:
        def normed(h: Array) -> Array:
            if condition is None:
                return nn.relu(Normalize(self.norm, dtype=self.dtype)(h, train=train))
            linear: dict[str, Any] = {}
            if self.conditioning == "shared":
                linear = {
                    "kernel_init": kernel_init_for(self.norm, self.kernel_init),
                    "weight": weight_for(self.norm),
                }
            groups = batch_groups(self.norm) or 1
            norm = ConditionalBatchNorm(groups=groups, dtype=self.dtype, **linear)
            return nn.relu(norm(h, condition, train=train))

        h = UpsampleConv(features, 3, **self._shared())(normed(x))
        h = Conv(features, 3, **self._shared())(normed(h))
        # A 1 x 1 convolution commutes with repeating pixels, and is four times cheaper before it.
        return h + upsample(Conv(features, 1, **self._shared())(x))

    @nn.nowrap
    def _shared(self) -> dict[str, Any]:
        return {
            "weight": weight_for(self.norm),
            "kernel_init": kernel_init_for(self.norm, self.kernel_init),
            "dtype": self.dtype,
        }


class ResNetCritic(BaseCritic):
    """A critic from images `[B, H, W, C]` and conditions to the score `[B]`, or a mapping with heads.

    Up to 32 pixels: blocks that halve to at most 8 pixels, then two that do not. Above: blocks that halve to at
    most 7 pixels, then one that does not.

    Attributes:
      width: channels; 128 for 32 pixels in both papers, 64 for larger images.
      attention: sizes at which self-attention follows the block.
      pool: how pixels become one vector at the end, `sum` (SNGAN) or `mean` (WGAN-GP).
      norm, heads, features, num_classes, ...: see `BaseCritic`.

    >>> critic = ResNetCritic(width=4, norm="spectral", num_classes=10, conditioning="projection")
    >>> x, y = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x, y)
    >>> out.shape
    (2,)
    """

    width: int = 128
    attention: Sequence[int] = ()
    pool: str = "sum"
    kernel_init: Initializer = initializer("glorot")

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Any:
        if x.ndim != 4:
            raise ValueError(f"The ResNet critic takes images [B, H, W, C], got {x.shape}.")
        if self.pool not in ("sum", "mean"):
            raise ValueError(f"Unknown pool {self.pool!r}: use 'sum' or 'mean'.")
        smaller_side = min(x.shape[1:3])
        sizes = critic_sizes(smaller_side)
        divided((x.shape[1], x.shape[2]), len(sizes))
        _check_attention("critic", self.attention, sizes)
        counts = stage_channels(smaller_side, self.width, len(sizes))
        h = self.inputs(x, conditions)
        for place, (size, features) in enumerate(zip(sizes, counts, strict=True)):
            h = self._first_block(h, features, train) if place == 0 else self._block(h, features, True, train)
            if size in self.attention:
                h = SelfAttention(**self.shared())(h)
        for _ in range(2 if smaller_side <= SMALL else 1):
            h = self._block(h, counts[-1], False, train)
        h = at_least_float32(nn.relu(Normalize(self.norm, dtype=self.dtype)(h, train=train)))
        return self.scores(h.sum((1, 2)) if self.pool == "sum" else h.mean((1, 2)), conditions)

    def _first_block(self, x: Array, features: int, train: bool) -> Array:
        h = Conv(features, 3, **self.shared())(x)
        h = nn.relu(Normalize(self.norm, dtype=self.dtype)(h, train=train))
        h = ConvMeanPool(features, 3, **self.shared())(h)
        return h + Conv(features, 1, **self.shared())(downsample(x))

    def _block(self, x: Array, features: int, halves: bool, train: bool) -> Array:
        h = nn.relu(Normalize(self.norm, dtype=self.dtype)(x, train=train))
        h = Conv(features, 3, **self.shared())(h)
        h = nn.relu(Normalize(self.norm, dtype=self.dtype)(h, train=train))
        h = (ConvMeanPool if halves else Conv)(features, 3, **self.shared())(h)
        if not halves and features == x.shape[-1]:
            return h + x
        return h + Conv(features, 1, **self.shared())(downsample(x) if halves else x)
