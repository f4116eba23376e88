"""Priors over the latent z: `(key, n) -> z`, sharded over the batch where the mesh asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax

from gan_jax.functional.batch import over_batch
from gan_jax.functional.options import check_count, check_number
from gan_jax.types import Array, Key, Tree

Prior: TypeAlias = Callable[[Key, int], Tree]


def draw_latents(prior: Prior, key: Key, n: int) -> Tree:
    """`n` latents of a prior, `[n, ...]` each.

    Raises:
      ValueError: if the prior returns another number of them; a single one would be a sample for a whole batch.

    >>> draw_latents(lambda key, n: jax.random.normal(key, (1, 3)), jax.random.key(0), 8)
    Traceback (most recent call last):
    ValueError: The prior returns a latent of shape (1, 3) for n = 8, and is to return arrays [n, ...].
    """
    drawn = prior(key, n)
    for leaf in jax.tree.leaves(drawn) or [drawn]:
        shape = getattr(leaf, "shape", None)
        if shape is None or not shape or shape[0] != n:
            what = f"{leaf!r}" if shape is None else f"a latent of shape {tuple(shape)}"
            raise ValueError(f"The prior returns {what} for n = {n}, and is to return arrays [n, ...].")
    return drawn


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
