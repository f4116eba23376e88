"""Kernels against scikit-learn and scipy, discrepancies against sums written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel

from gan_jax.functional import kernels

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32) + 1


class Kernels(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_distances_are_scipys(self):
        np.testing.assert_allclose(self.variant(kernels.distances)(X, Y), cdist(X, Y), rtol=1e-5)
        np.testing.assert_allclose(
            self.variant(kernels.squared_distances)(X, Y), cdist(X, Y, "sqeuclidean"), rtol=1e-4
        )

    @chex.variants(with_jit=True, without_jit=True)
    def test_gaussian_mixture_is_a_sum_of_sklearns(self):
        expected = sum(rbf_kernel(X, Y, gamma=1 / (2 * s * s)) for s in (0.5, 2.0))
        np.testing.assert_allclose(
            self.variant(kernels.gaussian_kernel((0.5, 2.0)))(X, Y), expected, rtol=1e-4
        )

    @chex.variants(with_jit=True, without_jit=True)
    def test_rational_quadratic_by_hand(self):
        """Distance 2, alpha 1/2, 1 and 2: (1 + 4)^-1/2 + (1 + 4 / 2)^-1 + (1 + 4 / 4)^-2."""
        found = self.variant(kernels.rational_quadratic_kernel((0.5, 1.0, 2.0)))(
            jnp.zeros((1, 2)), jnp.array([[2.0, 0.0]])
        )
        np.testing.assert_allclose(found, [[5**-0.5 + 1 / 3 + 1 / 4]], rtol=1e-6)


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.gaussian_kernel(),
        kernels.rational_quadratic_kernel(),
        kernels.linear_kernel,
    ],
)
def test_discrepancy_is_its_sums_and_never_negative_when_biased(kernel):
    xx, yy, xy = (np.asarray(kernel(a, b), np.float64) for a, b in ((X, X), (Y, Y), (X, Y)))
    biased = xx.mean() + yy.mean() - 2 * xy.mean()
    off = lambda g: (g.sum() - np.trace(g)) / (len(g) * (len(g) - 1))  # noqa: E731
    np.testing.assert_allclose(kernels.squared_mmd(kernel, X, Y, biased=True), biased, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        kernels.squared_mmd(kernel, X, Y), off(xx) + off(yy) - 2 * xy.mean(), rtol=1e-3, atol=1e-5
    )
    assert biased >= 0
    np.testing.assert_allclose(kernels.squared_mmd(kernel, X, X, biased=True), 0.0, atol=1e-5)


def test_gradients_where_points_agree_are_finite():
    grad = jax.grad(lambda x: jnp.sum(kernels.distances(x, x)))(jnp.asarray(X))
    assert np.all(np.isfinite(grad))
    np.testing.assert_array_equal(
        jax.grad(lambda x: jnp.sum(kernels.distances(x, jnp.zeros((1, 3)))))(jnp.zeros((1, 3))), 0
    )


def test_unbiased_needs_two_points():
    with pytest.raises(ValueError, match="at least 2 points"):
        kernels.squared_mmd(kernels.linear_kernel, X[:1], Y)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, -1e6])
def test_distances_far_from_zero_are_those_of_the_same_numbers(offset):
    """At 10,000 standard deviations from zero the squares of the points have no digit of the distances left."""
    x, y = X + np.float32(offset), Y + np.float32(offset)
    expected = cdist(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(kernels.distances(x, y), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        kernels.squared_mmd(kernels.gaussian_kernel((1.0,)), x, y, biased=True),
        sum(
            sign * rbf_kernel(a.astype(np.float64), b.astype(np.float64), gamma=0.5).mean()
            for sign, a, b in ((1, x, x), (1, y, y), (-2, x, y))
        ),
        atol=1e-4,
    )
