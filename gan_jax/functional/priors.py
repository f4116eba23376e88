"""Priors over the latent z: `(key, n) -> z`, sharded over the batch where the mesh asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax

from gan_jax.functional.batch import over_batch
from gan_jax.functional.options import check_count, check_number
from gan_jax.types import Array, Key, Tree

Prior: TypeAlias = Callable[[Key, int], Tree]


def gaussian(dim: int) -> Prior:
    """z ~ N(0, I), `[n, dim]`.

    Raises:
      ValueError: if `dim` is below 1.

    >>> gaussian(3)(jax.random.key(0), 5).shape
    (5, 3)
    """
    check_count("gaussian", "dim", dim)
    return lambda key, n: over_batch(jax.random.normal(key, (n, dim)))


def uniform(dim: int, low: float = -1.0, high: float = 1.0) -> Prior:
    """z ~ U[low, high]^dim, `[n, dim]`.

    Raises:
      ValueError: if `dim` is below 1, or `low` is not below `high`.
    """
    check_count("uniform", "dim", dim)
    check_number("uniform", "low", low, below=high)
    check_number("uniform", "high", high)

    def draw(key: Key, n: int) -> Array:
        return over_batch(jax.random.uniform(key, (n, dim), minval=low, maxval=high))

    return draw
