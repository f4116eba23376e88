"""Divergences against scipy's integrals, hand-computed masses, closed forms and limits between families."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gan_jax.functional import divergences as dv

LOG2 = np.log(2)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# By hand: p = (1/2, 1/2, 0), q = (1/4, 1/2, 1/4).
BY_HAND = {
    "kl": 0.5 * LOG2,
    "reverse_kl": np.inf,
    "jeffrey": np.inf,
    # M = (3/8, 1/2, 1/8)
    "jensen_shannon": 0.25 * np.log(4 / 3) + 0.125 * np.log(2 / 3) + 0.125 * LOG2,
    "total_variation": 0.25,
    "squared_hellinger": (np.sqrt(0.5) - 0.5) ** 2 + 0.25,
    "pearson": 0.25 + 0.25,
    "neyman": np.inf,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_masses_by_hand(name):
    found = dv.discrete(getattr(dv, name), [0.5, 0.5, 0.0], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(found, BY_HAND[name], rtol=1e-12)


def test_neyman_of_positive_masses_by_hand():
    np.testing.assert_allclose(dv.discrete(dv.neyman, [0.5, 0.5], [0.25, 0.75]), 0.25, rtol=1e-12)


def between(divergence, mean_p, std_p, mean_q, std_q, **options):
    """Jitted: one compilation where eager arithmetic would be thirty."""
    quadrature = jax.jit(lambda p, q: dv.between(divergence, p, q, **options))
    return quadrature(dv.mixture(mean_p, std_p), dv.mixture(mean_q, std_q))


P, Q = (0.3, 1.0), (0.9, 1.1)  # mean and standard deviation
F = {  # E_q f(p / q), the generators of Nowozin et al. (2016), table 1
    "kl": lambda u: u * np.log(u),
    "reverse_kl": lambda u: -np.log(u),
    "jeffrey": lambda u: (u - 1) * np.log(u),
    "jensen_shannon": lambda u: (u * np.log(u) - (u + 1) * np.log((1 + u) / 2)) / 2,
    "total_variation": lambda u: np.abs(u - 1) / 2,
    "squared_hellinger": lambda u: (np.sqrt(u) - 1) ** 2,
    "pearson": lambda u: (u - 1) ** 2,
    "neyman": lambda u: (1 - u) ** 2 / u,
}


@pytest.mark.parametrize("name", F)
def test_quadrature_equals_scipys_adaptive_integral(name):
    p, q = stats.norm(*P), stats.norm(*Q)
    expected, _ = integrate.quad(
        lambda x: q.pdf(x) * F[name](p.pdf(x) / q.pdf(x)), -10, 12, limit=400, points=[-2, 0, 1, 3]
    )
    found = between(getattr(dv, name), [P[0]], P[1], [Q[0]], Q[1])
    np.testing.assert_allclose(found, expected, rtol=2e-6 if name == "total_variation" else 1e-8)


@pytest.mark.full
def test_quadrature_equals_the_gaussian_closed_forms():
    closed = (P[0], P[1] ** 2, Q[0], Q[1] ** 2)
    for divergence, formula in [
        (dv.kl, dv.gaussian_kl),
        (dv.squared_hellinger, dv.gaussian_squared_hellinger),
        (dv.pearson, dv.gaussian_pearson),
    ]:
        np.testing.assert_allclose(
            between(divergence, [P[0]], P[1], [Q[0]], Q[1]), formula(*closed), rtol=1e-9
        )
    w2 = np.hypot(P[0] - Q[0], P[1] - Q[1])
    np.testing.assert_allclose(dv.gaussian_wasserstein_2(*closed), w2, rtol=1e-12)


def test_far_tails_do_not_underflow():
    found = between(dv.kl, [0.0], 1.0, [50.0], 1.0)
    np.testing.assert_allclose(found, 1250.0, rtol=1e-9)


def test_two_dimensional_quadrature_equals_the_closed_form():
    mean_p, mean_q = np.array([0.0, 0.5]), np.array([1.0, -0.5])
    found = between(dv.kl, [mean_p], 1.0, [mean_q], 1.5, points=161)
    expected = dv.gaussian_kl(mean_p, np.eye(2), mean_q, 2.25 * np.eye(2))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # By hand: (2 / 2.25 + 2 / 2.25 - 2 + 2 log 2.25) / 2
    np.testing.assert_allclose(expected, (4 / 2.25 - 2 + 2 * np.log(2.25)) / 2, rtol=1e-12)


@pytest.mark.full
def test_gaussian_closed_forms_add_over_independent_coordinates():
    p = [(0.0, 1.0), (1.0, 0.5)]
    q = [(0.3, 1.2), (0.0, 0.7)]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    mean_p, mean_q = (rotation @ np.array([m for m, _ in law]) for law in (p, q))
    cov_p, cov_q = (rotation @ np.diag([s**2 for _, s in law]) @ rotation.T for law in (p, q))
    axes = [(a, s**2, b, t**2) for (a, s), (b, t) in zip(p, q, strict=True)]
    joint = (mean_p, cov_p, mean_q, cov_q)
    np.testing.assert_allclose(dv.gaussian_kl(*joint), sum(dv.gaussian_kl(*axis) for axis in axes))
    product = np.prod([1 + dv.gaussian_pearson(*axis) for axis in axes])
    np.testing.assert_allclose(1 + dv.gaussian_pearson(*joint), product)
    affinity = np.prod([1 - dv.gaussian_squared_hellinger(*axis) / 2 for axis in axes])
    np.testing.assert_allclose(1 - dv.gaussian_squared_hellinger(*joint) / 2, affinity)
    squares = sum(dv.gaussian_wasserstein_2(*axis) ** 2 for axis in axes)
    np.testing.assert_allclose(dv.gaussian_wasserstein_2(*joint) ** 2, squares)


def test_pearson_of_equal_variances_and_where_it_is_infinite():
    np.testing.assert_allclose(dv.gaussian_pearson(0.0, 1.0, 1.5, 1.0), np.expm1(2.25), rtol=1e-12)
    assert np.isinf(dv.gaussian_pearson(0.0, 2.1, 0.0, 1.0))  # 2 / 2.1 < 1
    assert np.isfinite(dv.gaussian_pearson(0.0, 1.9, 0.0, 1.0))


@pytest.mark.parametrize(
    "law", [(0.0, 1.0, 0.0, 1.0), (0.0, 1.0, 2.0, 1.0), (1.0, 2.0, 1.0, 0.5), (3, 1, -1, 0.1)]
)
def test_total_variation_and_w1_of_gaussians_against_scipy(law):
    p, q = stats.norm(*law[:2]), stats.norm(*law[2:])
    x = np.linspace(-20, 20, 400_001)
    variation = integrate.trapezoid(np.abs(p.pdf(x) - q.pdf(x)), x) / 2
    transport = integrate.trapezoid(np.abs(p.cdf(x) - q.cdf(x)), x)
    np.testing.assert_allclose(dv.gaussian_total_variation(*law), variation, atol=1e-7)
    np.testing.assert_allclose(dv.gaussian_wasserstein_1(*law), transport, atol=1e-7)


def test_families_reach_the_two_kls():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    forward, backward = (stats.entropy(p, q), stats.entropy(q, p))
    for small in (1e-4, 1e-5):
        near_zero, near_one = dv.skewed_jensen_shannon(small), dv.skewed_jensen_shannon(1 - small)
        scale = small * (1 - small)
        np.testing.assert_allclose(dv.discrete(near_zero, p, q) / scale, forward, rtol=3 * small)
        np.testing.assert_allclose(dv.discrete(near_one, p, q) / scale, backward, rtol=3 * small)
        np.testing.assert_allclose(dv.discrete(dv.alpha_divergence(1 - small), p, q), forward, rtol=3 * small)
        np.testing.assert_allclose(dv.discrete(dv.alpha_divergence(small), p, q), backward, rtol=3 * small)
    np.testing.assert_allclose(dv.discrete(dv.alpha_divergence(1), p, q), forward)
    np.testing.assert_allclose(dv.discrete(dv.alpha_divergence(0), p, q), backward)
    half = 4 * (1 - np.sqrt(p * q).sum())  # alpha = 1/2: twice the squared Hellinger distance
    np.testing.assert_allclose(dv.discrete(dv.alpha_divergence(0.5), p, q), half)


def test_disjoint_supports():
    p, q = [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]
    for divergence, expected in [
        (dv.kl, np.inf),
        (dv.jensen_shannon, LOG2),
        (dv.total_variation, 1.0),
        (dv.squared_hellinger, 2.0),
        (dv.pearson, np.inf),
        (dv.alpha_divergence(0.5), 4.0),
    ]:
        np.testing.assert_allclose(dv.discrete(divergence, p, q), expected, rtol=1e-12)


@pytest.mark.parametrize("name", F)
def test_equal_distributions_have_none_and_a_cell_without_mass_keeps_the_gradient(name):
    divergence = getattr(dv, name)
    p = jnp.array([0.2, 0.8, 0.0])
    np.testing.assert_allclose(dv.discrete(divergence, p, p), 0.0, atol=1e-15)
    masked = jax.grad(
        lambda t: dv.discrete(divergence, jnp.array([t, 1 - t, 0.0]), jnp.array([0.3, 0.7, 0.0]))
    )
    joint = jax.grad(lambda t: dv.discrete(divergence, jnp.array([t, 1 - t]), jnp.array([0.3, 0.7])))
    point = jnp.array(0.5)
    np.testing.assert_allclose(jax.jit(masked)(point), jax.jit(joint)(point), rtol=1e-12)


def test_gradient_by_the_mean_follows_the_closed_form():
    """KL(N(m, 1) || N(0, 1)) = m^2 / 2."""
    gradient = jax.grad(lambda m: dv.between(dv.kl, dv.mixture(m[None]), dv.mixture(jnp.zeros(1))))
    np.testing.assert_allclose(jax.jit(gradient)(jnp.array(1.3)), 1.3, rtol=1e-8)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="same K outcomes"):
        dv.discrete(dv.kl, [0.5, 0.5], [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match="covariances"):
        dv.gaussian_kl([0.0, 0.0], np.eye(3), [0.0, 0.0], np.eye(2))
    with pytest.raises(ValueError, match="strictly between"):
        dv.skewed_jensen_shannon(1.0)
