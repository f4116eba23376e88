"""Casts for computations that need more than half precision."""

from __future__ import annotations

import jax.numpy as jnp

from gan_jax.types import Array


def at_least_float32(x: Array) -> Array:
    """Casts bf16 and f16 to float32 and leaves float32, float64 and integers unchanged.

    >>> at_least_float32(jnp.ones(2, jnp.bfloat16)).dtype, at_least_float32(jnp.ones(2, jnp.int32)).dtype
    (dtype('float32'), dtype('int32'))
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
