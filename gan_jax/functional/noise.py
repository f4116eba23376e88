"""Instance noise: noise on the critic's real and fake inputs, usually annealed over training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import over_batch
from gan_jax.game import InputTransform
from gan_jax.types import Array, Key, Tree

TRUNCATION = 2.0


def gaussian_noise(key: Key, x: Array) -> Array:
    """Standard normal noise with the shape of `x`."""
    return over_batch(jax.random.normal(key, x.shape, x.dtype))


def uniform_noise(key: Key, x: Array) -> Array:
    """Noise uniform in [-sqrt 3, sqrt 3], with standard deviation 1 and the shape of `x`."""
    return over_batch(jax.random.uniform(key, x.shape, x.dtype, -math.sqrt(3.0), math.sqrt(3.0)))


def truncated_noise(key: Key, x: Array) -> Array:
    """Normal noise truncated at two standard deviations and scaled to standard deviation 1, so within 2.28."""
    raw = jax.random.truncated_normal(key, -TRUNCATION, TRUNCATION, x.shape, x.dtype)
    return over_batch(raw / _truncated_deviation(TRUNCATION))


def _truncated_deviation(bound: float) -> float:
    """The standard deviation of a standard normal truncated at +-bound."""
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * bound * density / math.erf(bound / math.sqrt(2)))


NOISES: dict[str, Callable[[Key, Array], Array]] = {
    "gaussian": gaussian_noise,
    "uniform": uniform_noise,
    "truncated": truncated_noise,
}


def instance_noise(sigma: float | Callable[[Array], Array], kind: str = "gaussian") -> InputTransform:
    """Independent noise of standard deviation `sigma` in every coordinate of the critic's real and fake inputs.

    Args:
      sigma: a number, or `round -> number`: `optax.linear_schedule(0.5, 0.0, 10_000)` anneals it.
      kind: `gaussian`, `uniform` or `truncated`; the last two are bounded, as the paper's Wasserstein bound needs.

    Raises:
      ValueError: if there is no noise of this kind, or sigma is a negative number.

    References:
      Arjovsky & Bottou, Towards Principled Methods for Training GANs, 2017, section 3 (arXiv:1701.04862);
      Sonderby et al., Amortised MAP Inference for Image Super-resolution, 2017, section 3 (arXiv:1610.04490).

    >>> transform = instance_noise(0.5)
    >>> (x,) = transform.apply((jnp.zeros((1000, 2)),), jax.random.key(0), jnp.array(0), {})
    >>> round(float(x.std()), 1)
    0.5
    """
    if kind not in NOISES:
        raise ValueError(f"There is no noise {kind!r}: expected one of {sorted(NOISES)}.")
    if not callable(sigma) and sigma < 0:
        raise ValueError(f"The noise's standard deviation must be at least 0, got {sigma}.")

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        x, *conditions = inputs
        deviation = sigma(step) if callable(sigma) else sigma
        return (x + jnp.asarray(deviation, x.dtype) * NOISES[kind](key, x), *conditions)

    return InputTransform(name="instance_noise", apply=apply)
