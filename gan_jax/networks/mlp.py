"""Multi-layer perceptrons for points, small images and one-dimensional data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from gan_jax.functional.batch import flatten
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
    maxout,
    weight_for,
)
from gan_jax.types import Array


class Trunk(nn.Module):
    """The hidden layers, from `[B, D]` to `[B, widths[-1]]`.

    Attributes:
      widths: units of each hidden layer.
      activation: `relu`, `leaky_relu`, `tanh`, `maxout`, another name of `layers.activation`, or a callable.
      pieces: linear pieces of a maxout unit.
      norm: see `BaseCritic`.
      residual: whether every layer but the first adds to its input; the widths must then be equal.
      noise: standard deviation of Gaussian noise added to every hidden layer in training.
      dropout: the fraction of every hidden layer's units that is dropped in training.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation.

    Raises:
      ValueError: for residual layers of different widths.
    """

    widths: Sequence[int]
    activation: Activation = "relu"
    pieces: int = 5
    norm: Norm = "none"
    residual: bool = False
    noise: float = 0.0
    dropout: float = 0.0
    kernel_init: Initializer = initializer("lecun")
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> Array:
        if self.residual and len(set(self.widths)) > 1:
            raise ValueError(f"Residual layers must have equal widths, got {tuple(self.widths)}.")
        for index, width in enumerate(self.widths):
            layer = self._layer(h, width, train)
            h = h + layer if self.residual and index > 0 else layer
            h = GaussianNoise(self.noise)(h, train=train)
            h = Dropout(self.dropout)(h, train=train)
        return h

    def _layer(self, h: Array, width: int, train: bool) -> Array:
        pieces = self.pieces if self.activation == "maxout" else 1
        h = Dense(
            width * pieces,
            use_bias=not centers(self.norm),
            weight=weight_for(self.norm),
            kernel_init=kernel_init_for(self.norm, self.kernel_init),
            dtype=self.dtype,
        )(h)
        h = Normalize(self.norm, dtype=self.dtype)(h, train=train)
        return maxout(h, pieces) if self.activation == "maxout" else activation(self.activation)(h)


class MLPGenerator(nn.Module):
    """A generator from a latent `[B, d]` and conditions to samples `[B, *output_shape]`.

    Attributes:
      output_shape: the shape of a sample: `(2,)` for points, `(8, 8, 1)` for small images.
      widths, activation, pieces, norm, residual, kernel_init, dtype: see `Trunk`.
      output_activation: applied last: `identity` for points, `tanh` for images in [-1, 1], `sigmoid`.
      num_classes: the number of classes of integer labels, if the generator is conditional; they are appended to z.

    >>> import jax, jax.numpy as jnp
    >>> generator = MLPGenerator(output_shape=(2,), widths=(16, 16))
    >>> z = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z)
    >>> out.shape
    (3, 2)
    """

    output_shape: Sequence[int] = (2,)
    widths: Sequence[int] = (128, 128)
    activation: Activation = "relu"
    pieces: int = 5
    norm: Norm = "none"
    residual: bool = False
    output_activation: Activation = "identity"
    num_classes: int | None = None
    kernel_init: Initializer = initializer("lecun")
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        h = with_conditions(flatten(z), conditions, self.num_classes)
        h = Trunk(
            widths=self.widths,
            activation=self.activation,
            pieces=self.pieces,
            norm=self.norm,
            residual=self.residual,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="trunk",
        )(h, train=train)
        out = Dense(
            math.prod(self.output_shape),
            weight=weight_for(self.norm),
            kernel_init=kernel_init_for(self.norm, self.kernel_init),
            dtype=self.dtype,
            name="out",
        )(h)
        out = activation(self.output_activation)(at_least_float32(out))
        return out.reshape(-1, *self.output_shape)


class MLPCritic(BaseCritic):
    """A critic from samples `[B, ...]` and conditions to the score `[B]`, or a mapping with heads.

    Attributes:
      widths, activation, pieces, residual, noise, dropout: see `Trunk`. Twelve equal widths with `relu` are the
        critic of WGAN-GP's study of clipping.
      input_scale: multiplies the inputs (unrolled GAN's ring: 1/4).
      norm, heads, features, num_classes, ...: see `BaseCritic`.

    >>> import jax, jax.numpy as jnp
    >>> critic = MLPCritic(widths=(16,), heads={"code": 3}, features=True)
    >>> x = jax.ShapeDtypeStruct((5, 2), jnp.float32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x)
    >>> {name: head.shape for name, head in out.items()}
    {'code': (5, 3), 'features': (5, 16), 'score': (5,)}
    """

    widths: Sequence[int] = (128, 128)
    activation: Activation = "leaky_relu"
    pieces: int = 5
    residual: bool = False
    noise: float = 0.0
    dropout: float = 0.0
    input_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Any:
        h = self.inputs(flatten(x) * self.input_scale, conditions)
        h = Trunk(
            widths=self.widths,
            activation=self.activation,
            pieces=self.pieces,
            norm=self.norm,
            residual=self.residual,
            noise=self.noise,
            dropout=self.dropout,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="trunk",
        )(h, train=train)
        return self.scores(h, conditions)
