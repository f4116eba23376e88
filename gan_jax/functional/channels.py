"""Sums over all but the channels, and broadcasting of channels, whose derivatives of every order are fast on a CPU.

XLA sums a tall array on a CPU through a tree of windows, ten times slower than it reads it, and a batch
normalisation and its gradient are made of such sums. Here a short axis is summed first and the rest is a product
with ones. Broadcasting is written as a product with ones too, since its derivative is the sum. In programs for
other platforms both are the plain operations, whichever platform compiles them.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from gan_jax.types import Array

SHORT = 32
"""XLA sums axes up to this length directly."""


@functools.partial(jax.jit, inline=True)
def channel_sum(x: Array) -> Array:
    """The sum `[C]` of `x [..., C]` over all axes but the last.

    >>> channel_sum(jnp.arange(12.0).reshape(2, 1, 3, 2)).tolist()
    [30.0, 36.0]
    """
    if _is_plain(x.shape):
        return _plain_sum(x)
    return jax.lax.platform_dependent(x, cpu=_sum_by_product, default=_plain_sum)


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def over_channels(v: Array, shape: tuple[int, ...]) -> Array:
    """`v [C]` broadcast to `shape`, `(..., C)`.

    >>> over_channels(jnp.array([1.0, 2.0]), (1, 2, 2)).tolist()
    [[[1.0, 2.0], [1.0, 2.0]]]
    """
    plain = functools.partial(jnp.broadcast_to, shape=shape)
    if _is_plain(shape):
        return plain(v)
    return jax.lax.platform_dependent(v, cpu=functools.partial(_over_by_product, shape=shape), default=plain)


def materialize(x: Array) -> Array:
    """x itself, which a CPU computes once and keeps, as it does the gradient by x.

    For a sum of pre-activations and biases before an activation such as the leaky ReLU. XLA would fuse the
    activation's derivative into every sum over the pixels that reads it, the bias's gradient first, and compute it
    entry by entry across the memory's order. Other platforms get x alone, since they are faster with all of it
    fused.

    >>> materialize(jnp.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def _is_plain(shape: tuple[int, ...]) -> bool:
    """Tells whether the plain operation is the only form: for vectors, and where the batch is symbolic."""
    return len(shape) < 2 or not isinstance(shape[0], int)


def _plain_sum(x: Array) -> Array:
    return jnp.sum(x, tuple(range(x.ndim - 1)))


def _sum_by_product(x: Array) -> Array:
    short, rest = _split(x.shape)
    rows = jnp.sum(x.reshape(-1, short, rest, x.shape[-1]), axis=1).reshape(-1, x.shape[-1])
    return jnp.einsum("n,nc->c", jnp.ones(len(rows), x.dtype), rows, precision=jax.lax.Precision.HIGHEST)


def _over_by_product(v: Array, shape: tuple[int, ...]) -> Array:
    short, rest = _split(shape)
    ones = jnp.ones(shape[0] * rest, v.dtype)
    rows = jnp.einsum("n,c->nc", ones, v, precision=jax.lax.Precision.HIGHEST)
    # Its derivative is a product with the short sums, transposed: without a barrier XLA computes what is summed
    # anew in the transposed order, entry by entry.
    rows = jax.lax.optimization_barrier(rows).reshape(-1, 1, rest, shape[-1])
    return jnp.broadcast_to(rows, (shape[0], short, rest, shape[-1])).reshape(shape)


def _split(shape: tuple[int, ...]) -> tuple[int, int]:
    """The axes between the first and the last as a short one and the rest: the batch stays divided as it is."""
    middle = math.prod(shape[1:-1])
    short = max(n for n in range(1, min(SHORT, max(middle, 1)) + 1) if middle % n == 0)
    return short, middle // short
