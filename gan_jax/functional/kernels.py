"""Kernels between points `[n, D]` and `[m, D]` and the discrepancies they define.

Distances are computed from matrix products, which hardware is fast at, and have a gradient at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.types import Array

Kernel: TypeAlias = Callable[[Array, Array], Array]
"""`(x [n, D], y [m, D]) -> k(x_i, y_j) [n, m]`."""


def squared_distances(x: Array, y: Array) -> Array:
    """||x_i - y_j||^2, `[n, m]`, never negative.

    Both are taken relative to the mean of y: far from zero the squares of the points would cancel to rounding.
    """
    exact = jax.lax.Precision.HIGHEST
    center = jax.lax.stop_gradient(jnp.mean(y, axis=0))
    x, y = x - center, y - center
    products = jnp.matmul(x, y.T, precision=exact)
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
    return jnp.maximum(squares - 2 * products, 0.0)


def distances(x: Array, y: Array) -> Array:
    """||x_i - y_j||, `[n, m]`, with gradient 0 where the points agree."""
    squared = squared_distances(x, y)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def gaussian_kernel(bandwidths: Sequence[float] = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)) -> Kernel:
    """sum_s exp(-||x - y||^2 / (2 s^2)): the mixture of Binkowski et al. (2018), section 4.

    >>> print(gaussian_kernel((1.0,))(jnp.zeros((1, 2)), jnp.zeros((1, 2))))
    [[1.]]
    """

    def kernel(x: Array, y: Array) -> Array:
        squared = squared_distances(x, y)
        return sum((jnp.exp(-squared / (2 * s * s)) for s in bandwidths), start=jnp.zeros_like(squared))

    return kernel


def rational_quadratic_kernel(alphas: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)) -> Kernel:
    """sum_a (1 + ||x - y||^2 / (2 a))^-a: the mixture of Binkowski et al. (2018), section 4."""

    def kernel(x: Array, y: Array) -> Array:
        squared = squared_distances(x, y)
        return sum((_rational_quadratic(squared, a) for a in alphas), start=jnp.zeros_like(squared))

    return kernel


def _rational_quadratic(squared: Array, alpha: float) -> Array:
    # On a CPU XLA computes real powers entry by entry, many times slower than integer powers or exp and log.
    if float(alpha).is_integer():
        return (1 + squared / (2 * alpha)) ** -int(alpha)
    return jnp.exp(-alpha * jnp.log1p(squared / (2 * alpha)))


def linear_kernel(x: Array, y: Array) -> Array:
    """x . y, `[n, m]`; its discrepancy is the distance between the means."""
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def squared_mmd(kernel: Kernel, x: Array, y: Array, *, biased: bool = False) -> Array:
    """MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y): a scalar.

    Args:
      kernel: k.
      x, y: samples `[n, D]` and `[m, D]`; at least two of each for the unbiased estimate.
      biased: average over all pairs; by default over pairs of different points, which is unbiased and can be
        negative.

    Raises:
      ValueError: if there are too few points.

    References:
      Gretton et al., A Kernel Two-Sample Test, 2012, equations (3) and (5).

    >>> x = jnp.array([[0.0], [2.0]])
    >>> print(squared_mmd(linear_kernel, x, x + 3.0, biased=True))  # (mean difference)^2
    9.0
    """
    return (
        _mean_within(kernel(x, x), biased) + _mean_within(kernel(y, y), biased) - 2 * jnp.mean(kernel(x, y))
    )


def _mean_within(gram: Array, biased: bool) -> Array:
    """The mean of a Gram matrix, without its diagonal unless `biased`."""
    if biased:
        return jnp.mean(gram)
    n = gram.shape[0]
    if n < 2:
        raise ValueError(f"An unbiased MMD needs at least 2 points of each kind, got {n}.")
    return (jnp.sum(gram) - jnp.trace(gram)) / (n * (n - 1))
