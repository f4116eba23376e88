"""Initialisers of kernels with the distributions of Flax's, drawn as matrices.

On a CPU XLA takes some nine times as long to compile a random draw with four axes as the same draw with two, which
is seconds for a small network: every initialiser here draws a matrix `[everything else, out]` and reshapes it.
Flax traces an initialiser whenever its module is applied, to compare shapes: a draw is traced once for each shape.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.types import Array, Key

Initializer: TypeAlias = Callable[..., Array]


@functools.cache
def initializer(name: str, scale: float = 1.0) -> Initializer:
    """A kernel's initialiser by name.

    Args:
      name: `normal`, N(0, scale^2); `lecun`, truncated normal of variance scale^2 / fan in (Flax's default);
        `fan_in`, N(0, scale^2 / fan in); `he`, N(0, 2 scale^2 / fan in); `glorot`, uniform of variance
        2 scale^2 / (fan in + fan out); `orthogonal`, orthogonal rows or columns times `scale`.
      scale: the factor in these formulas.

    Raises:
      ValueError: for an unknown name.

    >>> kernel = initializer("orthogonal", 0.8)(jax.random.key(0), (4, 4))
    >>> bool(jnp.allclose(kernel @ kernel.T, 0.64 * jnp.eye(4), atol=1e-6))
    True
    """
    square = scale**2
    by_name: dict[str, Initializer] = {
        "normal": _as_matrix(nn.initializers.normal(scale)),
        "lecun": _as_matrix(nn.initializers.variance_scaling(square, "fan_in", "truncated_normal")),
        "fan_in": _as_matrix(nn.initializers.variance_scaling(square, "fan_in", "normal")),
        "he": _as_matrix(nn.initializers.variance_scaling(2.0 * square, "fan_in", "normal")),
        "glorot": _glorot(scale),
        "orthogonal": _as_matrix(nn.initializers.orthogonal(scale)),
    }
    if name not in by_name:
        raise ValueError(f"Unknown initialiser {name!r}: use one of {sorted(by_name)}.")
    return by_name[name]


def _traced_once(draw: Initializer) -> Initializer:
    traced = jax.jit(draw, static_argnames=("shape", "dtype"), inline=True)

    def initialize(key: Key, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return traced(key, tuple(shape), dtype)

    return initialize


def _as_matrix(initialize: Initializer) -> Initializer:
    """Draws a kernel as a matrix, for initialisers that depend only on the fan in of the shape."""

    @_traced_once
    def draw(key: Key, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return initialize(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return draw


def _glorot(scale: float) -> Initializer:
    @_traced_once
    def draw(key: Key, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
        bound = jnp.array(scale * math.sqrt(6.0 / (fan_in + fan_out)), dtype)
        return (jax.random.uniform(key, (fan_in, shape[-1]), dtype, -1) * bound).reshape(shape)

    return draw
