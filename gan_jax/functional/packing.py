"""PacGAN: the critic judges several samples at once, so that a lack of variety shows."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from gan_jax.game import InputTransform
from gan_jax.types import Array, Key, Tree


def pack(x: Array, degree: int) -> Array:
    """`degree` adjacent examples as one: `[B, ..., C]` to `[B / degree, ..., degree C]`.

    Labels `[B]` become `[B / degree, degree]`. Neighbours are packed and nothing is concatenated along the batch,
    whose devices keep their parts.

    Raises:
      ValueError: if the degree does not divide B.

    >>> print(pack(jnp.arange(8).reshape(4, 2), 2))
    [[0 1 2 3]
     [4 5 6 7]]
    """
    if x.shape[0] % degree:
        raise ValueError(f"packing({degree}) needs a batch that {degree} divides, got {x.shape[0]} examples.")
    packs = x.reshape(x.shape[0] // degree, degree, *x.shape[1:])
    if x.ndim == 1:
        return packs
    # The examples of a pack come to stand before the channels.
    packs = jnp.moveaxis(packs, 1, -2)
    return packs.reshape(*packs.shape[:-2], degree * x.shape[-1])


def packing(degree: int) -> InputTransform:
    """The critic sees packs of `degree` samples, its input so many times as wide (more channels for images).

    Scores are `[B / degree]`. Heads that say something of a single sample (classes, codes) make no sense with it
    and are refused.

    Raises:
      ValueError: if the degree is below 1.

    References:
      Lin et al., PacGAN: The power of two samples in generative adversarial networks, 2018, section 2
      (arXiv:1712.04086).

    >>> (x,) = packing(3).apply((jnp.ones((6, 8, 8, 1)),), jax.random.key(0), jnp.array(0), {})
    >>> x.shape
    (2, 8, 8, 3)
    """
    if degree < 1:
        raise ValueError(f"packing takes 1 or more samples at once, got {degree}.")

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        return tuple(pack(leaf, degree) for leaf in inputs)

    return InputTransform(name="packing", apply=apply, packs=degree)
