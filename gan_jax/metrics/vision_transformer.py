"""The vision transformer (Dosovitskiy et al., 2021) in Flax, with what CLIP and DINOv2 change of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.metrics.vision_inputs import torch_bicubic
from gan_jax.types import Array

HEAD_WIDTH = 64
"""The width of an attention head of all published CLIP and DINOv2 models."""


def quick_gelu(x: Array) -> Array:
    """`x sigmoid(1.702 x)`, CLIP's activation.

    >>> quick_gelu(jnp.array([0.0])).tolist()
    [0.0]
    """
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Array) -> Array:
    """`x Phi(x)`, DINOv2's activation.

    >>> exact_gelu(jnp.array([0.0])).tolist()
    [0.0]
    """
    return jax.nn.gelu(x, approximate=False)


class Attention(nn.Module):
    """Self-attention of tokens `[B, N, D]`, in heads of `HEAD_WIDTH`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, tokens, width = x.shape
        heads = (batch, tokens, width // HEAD_WIDTH, HEAD_WIDTH)
        query, key, value = (
            nn.Dense(width, name=name)(x).reshape(heads) for name in ("query", "key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(HEAD_WIDTH))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.Dense(width, name="out")(mixed.reshape(x.shape))


class Block(nn.Module):
    """A layer of the transformer, normalised before attention and before the perceptron.

    Attributes:
      hidden: the width of the perceptron's hidden layer.
      activation: its activation.
      epsilon: that of the normalisation.
      layer_scale: whether both residuals are scaled by a learned factor of the channel (Touvron et al., 2021).
    """

    hidden: int
    activation: Callable[[Array], Array]
    epsilon: float
    layer_scale: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        normed = nn.LayerNorm(self.epsilon, name="norm1")(x)
        x = x + self._scaled("scale1", Attention(name="attention")(normed))
        normed = nn.LayerNorm(self.epsilon, name="norm2")(x)
        inside = self.activation(nn.Dense(self.hidden, name="fc1")(normed))
        return x + self._scaled("scale2", nn.Dense(x.shape[-1], name="fc2")(inside))

    def _scaled(self, name: str, x: Array) -> Array:
        return x * self.param(name, nn.initializers.ones, (x.shape[-1],)) if self.layer_scale else x


class VisionTransformer(nn.Module):
    """Normalised images `[B, H, W, 3]` to tokens and the features of the class token.

    Attributes:
      patch: the side of a patch.
      width: D, the width of a token.
      layers: the number of layers.
      hidden, activation, epsilon, layer_scale: see `Block`.
      grid: the side of the grid of patches that the positions were trained for.
      clip: whether tokens are normalised before the first layer and patches are embedded without a bias, as in
        CLIP.
      projection: the width of the features, which a matrix makes of the class token; `None` leaves the token.
      offset: what is added to the grid's side where positions are interpolated; 0.1 in DINOv2's own code.

    Returns:
      `features`, `[B, projection or D]`, and `tokens`, `[B, 1 + patches, D]`, normalised in DINOv2's way.
    """

    patch: int
    width: int
    layers: int
    hidden: int
    activation: Callable[[Array], Array]
    epsilon: float
    grid: int
    layer_scale: bool = False
    clip: bool = False
    projection: int | None = None
    offset: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        if any(side % self.patch for side in x.shape[1:3]):
            raise ValueError(f"Images of {x.shape[1:3]} are not made of patches of {self.patch}.")
        sides = x.shape[1] // self.patch, x.shape[2] // self.patch
        embed = nn.Conv(
            self.width,
            (self.patch, self.patch),
            self.patch,
            padding="VALID",
            use_bias=not self.clip,
            name="embedding",
        )
        patches = embed(x).reshape(x.shape[0], -1, self.width)
        first = self.param("class", nn.initializers.zeros, (self.width,))
        tokens = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, self.width)), patches], axis=1)
        tokens = tokens + self._positions(sides)
        if self.clip:
            tokens = nn.LayerNorm(self.epsilon, name="norm0")(tokens)
        for layer in range(self.layers):
            block = Block(self.hidden, self.activation, self.epsilon, self.layer_scale, name=f"layer_{layer}")
            tokens = block(tokens)
        tokens = nn.LayerNorm(self.epsilon, name="norm")(tokens)
        features = tokens[:, 0]
        if self.projection is not None:
            features = nn.Dense(self.projection, use_bias=False, name="projection")(features)
        return {"features": features, "tokens": tokens}

    def _positions(self, sides: tuple[int, int]) -> Array:
        """The embeddings of the positions, interpolated to this grid as PyTorch does: `[1 + patches, D]`."""
        shape = (1 + self.grid**2, self.width)
        positions: Array = self.param("positions", nn.initializers.zeros, shape)
        if sides == (self.grid, self.grid):
            return positions
        down, across = (
            jnp.asarray(torch_bicubic(self.grid, side, self.grid / (side + self.offset)), jnp.float32)
            for side in sides
        )
        square = positions[1:].reshape(self.grid, self.grid, self.width)
        highest = jax.lax.Precision.HIGHEST
        resized = jnp.einsum("oh,pw,hwd->opd", down, across, square, precision=highest)
        return jnp.concatenate([positions[:1], resized.reshape(-1, self.width)])
