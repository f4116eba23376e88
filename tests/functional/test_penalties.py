"""Penalties against critics whose gradients are known."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.functional import penalties

KEY = jax.random.key(0)


def linear(w):
    return lambda x: jnp.sum(x * w, axis=tuple(range(1, x.ndim)))


UNIT = jnp.full((2, 3, 1), 1 / np.sqrt(6.0))
IMAGES = jax.random.normal(KEY, (5, 2, 3, 1))


class Linear(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_unit_norm_critic_has_no_penalty(self):
        """The norm runs over all axes but the first: height, width and channels together have length 1."""
        found = self.variant(lambda x: penalties.norm_penalty(linear(UNIT), x))(IMAGES)
        chex.assert_shape(found, (5,))
        np.testing.assert_allclose(found, 0.0, atol=1e-12)

    @chex.variants(with_jit=True, without_jit=True)
    def test_two_and_one_sided(self):
        """||w|| = 3: (3 - 1)^2 = 4 either way; ||w|| = 1/4: (3/4)^2 and 0; target 2: (3 - 2)^2."""
        for norm, target, one_sided, expected in [
            (3.0, 1.0, False, 4.0),
            (3.0, 1.0, True, 4.0),
            (0.25, 1.0, False, 0.5625),
            (0.25, 1.0, True, 0.0),
            (3.0, 2.0, False, 1.0),
            (3.0, 0.0, False, 9.0),
        ]:
            penalty = functools.partial(
                penalties.norm_penalty, linear(norm * UNIT), target=target, one_sided=one_sided
            )
            np.testing.assert_allclose(self.variant(penalty)(IMAGES), expected, rtol=1e-5, atol=1e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_zero_centred_is_half_the_squared_norm(self):
        found = self.variant(lambda x: penalties.zero_centred_penalty(linear(3 * UNIT), x))(IMAGES)
        np.testing.assert_allclose(found, 4.5, rtol=1e-6)


def test_quadratic_critic_by_hand():
    """D = ||x||^2 / 2 has the gradient x: R1 is ||x||^2 / 2."""
    x = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    found = penalties.zero_centred_penalty(lambda x: jnp.sum(x**2, axis=1) / 2, x)
    np.testing.assert_allclose(found, [12.5, 0.5])


def test_a_constant_critic_has_finite_gradients():
    """The gradient of a norm at zero is not a number; the safe norm's is 0. The penalty itself is 1."""

    def loss(w):
        return jnp.mean(penalties.norm_penalty(linear(w), IMAGES))

    value, grad = jax.value_and_grad(loss)(jnp.zeros((2, 3, 1)))
    np.testing.assert_allclose(value, 1.0)
    np.testing.assert_array_equal(grad, 0.0)


def test_safe_norm_has_the_norms_gradient_elsewhere():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(penalties.safe_norm(x), [5.0, 0.0])
    grad = jax.grad(lambda x: jnp.sum(penalties.safe_norm(x)))(x)
    np.testing.assert_allclose(grad, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_parameter_gradient_of_a_penalty_against_finite_differences():
    x = jax.random.normal(KEY, (4, 3))

    def loss(w):
        return jnp.mean(penalties.norm_penalty(lambda x: jnp.sum(jnp.tanh(x @ w), axis=1), x))

    with jax.enable_x64(True):
        x = jnp.asarray(x, jnp.float64)
        w = jnp.asarray(jax.random.normal(jax.random.key(1), (3, 2)), jnp.float64)
        direction = jnp.asarray(jax.random.normal(jax.random.key(2), (3, 2)), jnp.float64)
        slope = (loss(w + 1e-5 * direction) - loss(w - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(w), direction), slope, rtol=1e-6)


def test_interpolates_lie_on_the_segments_with_one_weight_an_example():
    real, fake = jnp.zeros((1000, 2, 2)), jnp.ones((1000, 2, 2))
    points = np.asarray(penalties.interpolates(KEY, real, fake))
    assert np.all(points == points[:, :1, :1])
    weights = points[:, 0, 0]
    assert 0 <= weights.min() < 0.01
    assert 0.99 < weights.max() <= 1
    # U[0, 1]: mean 1/2, standard error .289 / sqrt(1000)
    assert abs(weights.mean() - 0.5) < 0.04


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_mixture_takes_unblended_samples(t):
    real, fake = jnp.zeros((2000, 3)), jnp.ones((2000, 3))
    points = np.asarray(penalties.mixture(KEY, real, fake, t))
    assert set(np.unique(points)) <= {0.0, 1.0}
    assert np.all(points == points[:, :1])
    assert abs(points.mean() - t) < 5 * np.sqrt(t * (1 - t) / 2000) + 1e-9


@pytest.mark.full
def test_dragan_points_lie_within_half_a_deviation_as_in_the_authors_code():
    """x + a std(x) u / 2: of 10,000 coordinates the largest u is nearly 1, so the largest step is its a."""
    real = jax.random.normal(KEY, (400, 10_000)) * 3
    steps = np.asarray(penalties.dragan_point(jax.random.key(1), real) - real) / (0.5 * float(jnp.std(real)))
    assert steps.min() >= -1e-5
    a = steps.max(axis=1)
    assert stats.kstest(a, stats.uniform().cdf).pvalue > 1e-3
    assert stats.kstest(steps[0] / a[0], stats.uniform().cdf).pvalue > 1e-3


@pytest.mark.parametrize("target", [0.5, 2.0])
def test_tf_gans_penalty_is_divided_by_the_squared_target(target):
    """||w|| = 3: (3 / t - 1)^2 is (3 - t)^2 / t^2."""
    found = penalties.norm_penalty(linear(3 * UNIT), IMAGES, target=target)
    np.testing.assert_allclose(found / target**2, (3 / target - 1) ** 2, rtol=1e-5)
