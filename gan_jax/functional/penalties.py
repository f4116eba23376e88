"""Penalties on a critic, written for a closure `critic: x [B, ...] -> score [B]`.

Norms run over all axes but the first and are safe at zero, where the gradient of a norm is not a number.
Each returns one value an example, `[B]`, unless it says otherwise; the critic must not couple its batch.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten, over_batch
from gan_jax.keys import named_key
from gan_jax.types import Array, Key

Critic = Callable[[Array], Array]


def input_gradient(critic: Critic, x: Array) -> Array:
    """grad_x D(x) for every example, the shape of `x`.

    Of a critic that scores patches, `[B, h, w]`, it is the gradient of the sum of an example's scores: a penalty on
    a critic of more patches is larger, and its target or weight is to be chosen for their number.
    """
    return jax.grad(lambda x: jnp.sum(critic(x)))(x)


def squared_norm(x: Array) -> Array:
    """||x||^2 over all axes but the first: `[B]`."""
    return jnp.sum(jnp.square(flatten(x)), axis=1)


def safe_norm(x: Array) -> Array:
    """||x|| over all axes but the first: `[B]`, with gradient 0 at x = 0."""
    squared = squared_norm(x)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def interpolates(key: Key, real: Array, fake: Array) -> Array:
    """x_hat = e x + (1 - e) x_tilde, one e ~ U[0, 1] an example (Gulrajani et al., 2017, Algorithm 1)."""
    shape = (real.shape[0],) + (1,) * (real.ndim - 1)
    e = over_batch(jax.random.uniform(key, shape, dtype=real.dtype))
    return e * real + (1 - e) * fake


def mixture(key: Key, real: Array, fake: Array, t: float = 0.5) -> Array:
    """Samples of (1 - t) p_data + t p_g: each example is real or fake, never a blend."""
    shape = (real.shape[0],) + (1,) * (real.ndim - 1)
    return jnp.where(over_batch(jax.random.bernoulli(key, t, shape)), fake, real)


def norm_penalty(critic: Critic, x: Array, target: float = 1.0, one_sided: bool = False) -> Array:
    """(||grad D(x)|| - target)^2, or its one-sided form max(0, ||grad D(x)|| - target)^2: `[B]`.

    TF-GAN's penalty with a target t is (||grad D(x)|| / t - 1)^2, this one divided by t^2.

    References:
      Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation (3) (arXiv:1704.00028).
    """
    excess = safe_norm(input_gradient(critic, x)) - target
    return jnp.square(jnp.maximum(excess, 0) if one_sided else excess)


def zero_centred_penalty(critic: Critic, x: Array) -> Array:
    """||grad D(x)||^2 / 2 an example: R1 at real x, R2 at fake x, weighed by gamma: `[B]`.

    References:
      Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, (9) and (10)
      (arXiv:1801.04406).
    """
    return squared_norm(input_gradient(critic, x)) / 2


def max_squared_norm(critic: Critic, x: Array) -> Array:
    """max ||grad D(x)||^2 over the batch: a scalar.

    References:
      Zhou et al., Lipschitz Generative Adversarial Nets, 2019, section 4 (arXiv:1902.05687).
    """
    return jnp.max(squared_norm(input_gradient(critic, x)))


def dragan_point(key: Key, real: Array, scale: float = 0.5) -> Array:
    """x + a scale std(x) u, u ~ U[0, 1] for every coordinate and a ~ U[0, 1] for every example: around the data.

    The standard deviation is of the whole batch.

    References:
      Kodali et al., On Convergence and Stability of GANs, 2017 (arXiv:1705.07215), as in the authors' code.
    """
    u = over_batch(jax.random.uniform(key, real.shape, dtype=real.dtype))
    shape = (real.shape[0],) + (1,) * (real.ndim - 1)
    a = over_batch(jax.random.uniform(named_key(key, "alpha"), shape, dtype=real.dtype))
    return real + a * scale * jnp.std(real) * u
