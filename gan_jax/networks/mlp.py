"""Multi-layer perceptrons for points, small images and one-dimensional data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn

from gan_jax.functional.batch import flatten
from gan_jax.networks.heads import Scores, with_conditions
from gan_jax.networks.layers import (
    Activation,
    Dense,
    GaussianNoise,
    Normalize,
    activation,
    at_least_float32,
    centers,
    maxout,
    weight_for,
)
from gan_jax.types import Array


class Trunk(nn.Module):
    """The hidden layers: `[B, D]` to `[B, widths[-1]]`.

    Attributes:
      widths: units of each hidden layer.
      activation: `relu`, `leaky_relu`, `tanh`, `maxout`, another name of `layers.activation`, or a callable.
      pieces: linear pieces of a maxout unit.
      norm: one of `layers.NORMS`.
      residual: whether every layer but the first adds to its input; the widths must then be equal.
      noise: standard deviation of Gaussian noise added to every hidden layer while training.
      kernel_init: initialiser of the kernels.
      dtype: of the computation.

    Raises:
      ValueError: for residual layers of different widths.
    """

    widths: Sequence[int]
    activation: Activation = "relu"
    pieces: int = 5
    norm: str = "none"
    residual: bool = False
    noise: float = 0.0
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> Array:
        if self.residual and len(set(self.widths)) > 1:
            raise ValueError(f"Residual layers have one width, got {tuple(self.widths)}.")
        for index, width in enumerate(self.widths):
            layer = self._layer(h, width, train)
            h = h + layer if self.residual and index > 0 else layer
            h = GaussianNoise(self.noise)(h, train=train)
        return h

    def _layer(self, h: Array, width: int, train: bool) -> Array:
        pieces = self.pieces if self.activation == "maxout" else 1
        h = Dense(
            width * pieces,
            use_bias=not centers(self.norm),
            weight=weight_for(self.norm),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )(h)
        h = Normalize(self.norm, dtype=self.dtype)(h, train=train)
        return maxout(h, pieces) if self.activation == "maxout" else activation(self.activation)(h)


class MLPGenerator(nn.Module):
    """Latent `[B, d]` and conditions to samples `[B, *output_shape]`.

    Attributes:
      output_shape: of one sample: `(2,)` for points, `(8, 8, 1)` for small images.
      widths, activation, pieces, norm, residual, kernel_init, dtype: see `Trunk`.
      output_activation: applied last: `identity` for points, `tanh` for images in [-1, 1], `sigmoid`.
      num_classes: of integer labels, where the generator is conditional; they enter one-hot beside z.

    >>> generator = MLPGenerator(output_shape=(2,), widths=(16, 16))
    >>> import jax, jax.numpy as jnp
    >>> z = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z)
    >>> out.shape
    (3, 2)
    """

    output_shape: Sequence[int] = (2,)
    widths: Sequence[int] = (128, 128)
    activation: Activation = "relu"
    pieces: int = 5
    norm: str = "none"
    residual: bool = False
    output_activation: Activation = "identity"
    num_classes: int | None = None
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
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
        size = 1
        for n in self.output_shape:
            size *= n
        out = Dense(
            size, weight=weight_for(self.norm), kernel_init=self.kernel_init, dtype=self.dtype, name="out"
        )(h)
        out = activation(self.output_activation)(at_least_float32(out))
        return out.reshape(-1, *self.output_shape)


class MLPCritic(nn.Module):
    """Samples `[B, ...]` and conditions to the score `[B]`, or a mapping where heads are asked for.

    Attributes:
      widths, activation, pieces, norm, residual, noise, kernel_init, dtype: see `Trunk`. Twelve equal widths with
        `relu` are the critic of WGAN-GP's study of clipping.
      input_scale: multiplies the inputs (unrolled GAN's ring: 1/4).
      heads, features: see `Scores`.
      num_classes: of integer labels, where the critic is conditional.
      conditioning: `concat` puts the condition beside the input, `projection` adds `<embedding(y), h>`.

    >>> critic = MLPCritic(widths=(16,), heads={"code": 3}, features=True)
    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((5, 2), jnp.float32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x)
    >>> {name: head.shape for name, head in out.items()}
    {'code': (5, 3), 'features': (5, 16), 'score': (5,)}
    """

    widths: Sequence[int] = (128, 128)
    activation: Activation = "leaky_relu"
    pieces: int = 5
    norm: str = "none"
    residual: bool = False
    noise: float = 0.0
    input_scale: float = 1.0
    heads: Mapping[str, int] | None = None
    features: bool = False
    num_classes: int | None = None
    conditioning: str = "concat"
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Any:
        projects = is_projection(self.conditioning, self.num_classes)
        h = flatten(x) * self.input_scale
        if not projects:
            h = with_conditions(h, conditions, self.num_classes)
        h = Trunk(
            widths=self.widths,
            activation=self.activation,
            pieces=self.pieces,
            norm=self.norm,
            residual=self.residual,
            noise=self.noise,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="trunk",
        )(h, train=train)
        return Scores(
            heads=self.heads,
            features=self.features,
            projection=self.num_classes if projects else None,
            weight=weight_for(self.norm),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="scores",
        )(h, *conditions[:1] if projects else ())


def is_projection(conditioning: str, num_classes: int | None) -> bool:
    """Whether a critic is conditioned by projection.

    Raises:
      ValueError: for an unknown conditioning, and for a projection without classes.
    """
    if conditioning not in ("concat", "projection"):
        raise ValueError(f"Unknown conditioning {conditioning!r}: use 'concat' or 'projection'.")
    if conditioning == "projection" and num_classes is None:
        raise ValueError("conditioning='projection' needs num_classes=...")
    return conditioning == "projection"
