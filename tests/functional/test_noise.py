"""Instance noise: unit variance, the stated bounds, and a schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gan_jax.functional.noise import NOISES, instance_noise


@pytest.mark.parametrize(("kind", "bound"), [("gaussian", None), ("uniform", 3**0.5), ("truncated", 2.28)])
def test_noise_has_unit_variance_and_its_bound(kind, bound):
    n = 40_000
    draws = np.asarray(NOISES[kind](jax.random.key(0), jnp.zeros((n, 1))))
    np.testing.assert_allclose(draws.std(), 1.0, atol=5 / np.sqrt(n))
    np.testing.assert_allclose(draws.mean(), 0.0, atol=5 / np.sqrt(n))
    if bound:
        assert np.abs(draws).max() <= bound


def test_truncated_noise_has_the_distribution_it_says():
    """scipy's truncated normal on [-2, 2], divided by its own deviation: Kolmogorov-Smirnov."""
    draws = np.asarray(NOISES["truncated"](jax.random.key(1), jnp.zeros((4000, 1))))[:, 0]
    reference = stats.truncnorm(-2, 2)
    assert stats.kstest(draws * reference.std(), reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("sigma", "kind"), [(1.0, "laplace"), (-0.1, "gaussian")])
def test_instance_noise_refuses(sigma, kind):
    with pytest.raises(ValueError, match=r"no noise 'laplace'|at least 0, got -0.1"):
        instance_noise(sigma, kind)


def test_conditions_are_unchanged_and_the_schedule_is_read():
    transform = instance_noise(optax.linear_schedule(1.0, 0.0, 4))
    x, y = jnp.zeros((3, 2)), jnp.arange(3)
    for step, scale in ((0, 1.0), (2, 0.5), (4, 0.0)):
        noisy, labels = transform.apply((x, y), jax.random.key(0), jnp.int32(step), {})
        np.testing.assert_array_equal(labels, y)
        np.testing.assert_allclose(noisy, scale * NOISES["gaussian"](jax.random.key(0), x), rtol=1e-6)
