"""PacGAN: the critic scores several samples jointly, so that it detects a lack of diversity."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from gan_jax.game import InputTransform
from gan_jax.types import Array, Key, Tree


def pack(x: Array, degree: int) -> Array:
    """Packs `degree` adjacent examples into one: `[B, ..., C]` to `[B / degree, ..., degree C]`.

    Labels `[B]` become `[B / degree, degree]`. Adjacent examples are packed, so that a sharded batch stays on its
    devices.

    Raises:
      ValueError: if the degree does not divide B.

    >>> print(pack(jnp.arange(8).reshape(4, 2), 2))
    [[0 1 2 3]
     [4 5 6 7]]
    """
    if x.shape[0] % degree:
        raise ValueError(
            f"packing({degree}) needs a batch size divisible by {degree}, got {x.shape[0]} examples."
        )
    packs = x.reshape(x.shape[0] // degree, degree, *x.shape[1:])
    if x.ndim == 1:
        return packs
    # Move the axis of a pack's examples in front of the channels.
    packs = jnp.moveaxis(packs, 1, -2)
    return packs.reshape(*packs.shape[:-2], degree * x.shape[-1])


def packing(degree: int) -> InputTransform:
    """A transform that packs `degree` samples into one input of the critic, concatenated along the channels.

    Scores are then `[B / degree]`. Terms that read heads for single samples (classes, codes) are refused.

    Args:
      degree: the number of samples in a pack, at least 1; it must divide the batch size.

    Raises:
      ValueError: if the degree is below 1.

    References:
      Lin et al., PacGAN: The power of two samples in generative adversarial networks, 2018, section 2
      (arXiv:1712.04086).

    >>> import jax
    >>> (x,) = packing(3).apply((jnp.ones((6, 8, 8, 1)),), jax.random.key(0), jnp.array(0), {})
    >>> x.shape
    (2, 8, 8, 3)
    """
    if degree < 1:
        raise ValueError(f"packing needs a degree of at least 1, got {degree}.")

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        return tuple(pack(leaf, degree) for leaf in inputs)

    return InputTransform(name="packing", apply=apply, packs=degree)
