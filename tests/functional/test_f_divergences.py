"""f-divergences: conjugates against numerical suprema, bounds against true divergences, limits of the families."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from gan_jax.functional import divergences as dv
from gan_jax.functional.f_divergences import (
    F_DIVERGENCES,
    alpha_divergence,
    log_wright_omega,
    lower_bound,
    skewed_jensen_shannon_divergence,
)
from tests.tiers import full_except

FAMILIES = [
    *(alpha_divergence(a) for a in (-0.5, 0.0, 0.3, 0.5, 1.0, 2.0)),
    *(skewed_jensen_shannon_divergence(w) for w in (0.1, 0.5, 0.8)),
    skewed_jensen_shannon_divergence(0.3, normalized=True),
]
ALL = {d.name: d for d in (*F_DIVERGENCES.values(), *FAMILIES)}
KEPT = (
    "kl",
    "reverse_kl",
    "pearson",
    "squared_hellinger",
    "jensen_shannon",
    "gan",
    "total_variation",
    "alpha=0.5",
)
EVERY = pytest.mark.parametrize("name", full_except(KEPT, ALL))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def inside(domain, n=9):
    """Points inside an open interval."""
    low, high = domain
    low = low + 0.02 if np.isfinite(low) else min(high, 1.0) - 4.0
    high = high - 0.02 if np.isfinite(high) else max(low, 0.0) + 2.0
    return np.linspace(low, high, n)


@EVERY
def test_conjugate_is_the_supremum(name):
    """f*(t) = sup_u (t u - f(u)), searched over log u on a grid, and on a finer one around the best."""
    d = ALL[name]
    t = inside(d.domain)[:, None]
    centre, step = np.zeros_like(t), 18.0 / 2000
    for _ in range(2):
        log_u = centre + step * np.arange(-2000, 2001)
        u = jnp.exp(log_u)
        values = np.asarray(t * u - d.f(u))
        best = values.argmax(axis=1)[:, None]
        centre, step = np.take_along_axis(log_u, best, axis=1), 2 * step / 2000
    supremum = np.take_along_axis(values, best, axis=1)
    np.testing.assert_allclose(d.conjugate(jnp.asarray(t)), supremum, rtol=1e-8, atol=1e-7)


def test_pearson_below_its_domain_is_a_looser_bound():
    """The supremum is -f(0) = -1 there; the formula lies above it."""
    t = jnp.linspace(-6.0, -2.001, 20)
    assert np.all(F_DIVERGENCES["pearson"].conjugate(t) > -1)


@EVERY
def test_penalty_is_the_conjugate_of_the_activation(name):
    d = ALL[name]
    v = jnp.linspace(-3.0, 3.0, 25)
    t = d.activation(v)
    assert np.all(np.diff(t) > 0)
    if name != "pearson":
        assert np.all((t > d.domain[0]) & (t < d.domain[1]))
    np.testing.assert_allclose(d.penalty(v), d.conjugate(t), rtol=1e-10, atol=1e-12)


@EVERY
def test_threshold_is_the_slope_at_one(name):
    """f'(1), from both sides for total variation, where 0 lies between -1/2 and 1/2."""
    d = ALL[name]
    slope = (d.f(jnp.asarray(1 + 1e-6)) - d.f(jnp.asarray(1 - 1e-6))) / 2e-6
    np.testing.assert_allclose(slope, d.threshold, atol=1e-6)


@EVERY
def test_f_of_one(name):
    """Zero, for a divergence of equals; 2 JSD - log 4 is the exception that its name announces."""
    expected = -np.log(4) if name == "gan" else 0.0
    np.testing.assert_allclose(ALL[name].f(jnp.asarray(1.0)), expected, atol=1e-15)


@EVERY
@pytest.mark.parametrize("v", [-80.0, 80.0])
def test_far_scores_in_single_precision(name, v):
    """Where the exact value fits float32, so does ours; the conjugate of a rounded activation would not."""
    d = ALL[name]
    v = jnp.asarray(v, jnp.float32)
    for formula in (d.activation, d.penalty):
        value, slope = jax.value_and_grad(formula)(v)
        exact = formula(jnp.asarray(v, jnp.float64))
        if abs(exact) < 3e38:
            assert np.isfinite(value)
            np.testing.assert_allclose(value, exact, rtol=1e-4, atol=1e-4)
            assert np.isfinite(slope)


def test_log_wright_omega_against_scipy():
    z = np.linspace(-30.0, 200.0, 300)
    np.testing.assert_allclose(
        np.exp(log_wright_omega(jnp.asarray(z))), special.wrightomega(z).real, rtol=1e-12
    )


def test_log_wright_omega_derivatives():
    """w' = w / (1 + w), so (log w)' = 1 / (1 + w) and (log w)'' = -w / (1 + w)^3."""
    w = special.wrightomega(0.7).real
    np.testing.assert_allclose(jax.grad(log_wright_omega)(0.7), 1 / (1 + w), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(jax.grad(log_wright_omega))(0.7), -w / (1 + w) ** 3, rtol=1e-12)


# --- the bound ----------------------------------------------------------------------------------------------

P, Q = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.1, 0.3, 0.2, 0.4])
MEAN, STD = 0.6, 1.3


def optimal_score(d, ratio):
    """The v with g_f(v) = f'(p / q), by bisection: both are given, neither is inverted by hand."""
    target = jax.vmap(jax.grad(d.f))(jnp.asarray(ratio))
    low, high = jnp.full(len(ratio), -60.0), jnp.full(len(ratio), 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = d.activation(middle) > target
        low, high = jnp.where(above, low, middle), jnp.where(above, middle, high)
    return middle


def bound(d, v, p, q):
    return float(jnp.sum(p * d.activation(v)) - jnp.sum(q * d.penalty(v)))


TRUE = {
    "kl": dv.kl,
    "reverse_kl": dv.reverse_kl,
    "pearson": dv.pearson,
    "neyman": dv.neyman,
    "squared_hellinger": dv.squared_hellinger,
    "jeffrey": dv.jeffrey,
    "jensen_shannon": lambda p, q: 2 * dv.jensen_shannon(p, q),
    "gan": lambda p, q: 2 * dv.jensen_shannon(p, q) - np.log(4),
    "total_variation": dv.total_variation,
    **{f"alpha={a:g}": dv.alpha_divergence(a) for a in (-0.5, 0.3, 0.5, 2.0)},
    "alpha=0": dv.reverse_kl,
    "alpha=1": dv.kl,
    **{f"skewed_js={w:g}": dv.skewed_jensen_shannon(w) for w in (0.1, 0.5, 0.8)},
    "skewed_js=0.3": lambda p, q: dv.skewed_jensen_shannon(0.3)(p, q) / 0.21,
}


@EVERY
def test_bound_on_masses(name):
    """Never above the divergence, whatever the critic; equal to it at the optimal one."""
    d, true = ALL[name], float(TRUE[name](jnp.log(P), jnp.log(Q)))
    np.testing.assert_allclose(np.sum(Q * np.asarray(d.f(jnp.asarray(P / Q)))), true, rtol=1e-10)
    critics = 2 * jax.random.normal(jax.random.key(0), (50, 4))
    bounds = jnp.sum(P * d.activation(critics), axis=1) - jnp.sum(Q * d.penalty(critics), axis=1)
    assert np.all(bounds <= true + 1e-12)
    # Total variation reaches it at T = +-1/2 only, that is at infinite scores.
    best = 30.0 * np.sign(P - Q) if name == "total_variation" else optimal_score(d, P / Q)
    np.testing.assert_allclose(bound(d, jnp.asarray(best), P, Q), true, rtol=1e-9)


@EVERY
def test_bound_on_two_gaussians(name):
    """N(0, 1) against N(.6, 1.3^2): linear and quadratic critics stay below scipy's integral of q f(p / q)."""
    d = ALL[name]

    def log_p(x):
        return -(x**2) / 2 - np.log(2 * np.pi) / 2

    def log_q(x):
        return -(((x - MEAN) / STD) ** 2) / 2 - np.log(STD) - np.log(2 * np.pi) / 2

    points = np.linspace(-12, 12, 4001)
    ratio = jnp.exp(log_p(points) - log_q(points))
    integrand = np.exp(log_q(points)) * np.asarray(d.f(ratio))
    true = integrate.simpson(integrand, x=points)
    cell = points[1] - points[0]
    p, q = np.exp(log_p(points)) * cell, np.exp(log_q(points)) * cell
    for a, b, c in [(0.0, 0.0, 0.0), (0.3, -0.5, 0.0), (0.2, -0.4, -0.1), (-0.2, 0.3, 0.0)]:
        assert bound(d, jnp.asarray(a + b * points + c * points**2), p, q) <= true + 1e-9
    log_ratio = log_p(points) - log_q(points)
    closed = {"kl": 1 + log_ratio, "reverse_kl": log_ratio, "gan": log_ratio, "jensen_shannon": log_ratio}
    closed |= {n: log_ratio for n in ALL if n.startswith(("alpha", "skewed"))}
    if name in closed:
        np.testing.assert_allclose(bound(d, jnp.asarray(closed[name]), p, q), true, rtol=1e-6)


def test_lower_bound_of_samples():
    """KL(N(1, 1) || N(0, 1)) = 1/2 at the optimal critic v = 1 + x - 1/2; standard error about 1 %."""
    keys = jax.random.split(jax.random.key(0))
    real, fake = jax.random.normal(keys[0], (200_000,)) + 1, jax.random.normal(keys[1], (200_000,))
    found = lower_bound(F_DIVERGENCES["kl"], real + 0.5, fake + 0.5)
    np.testing.assert_allclose(found, 0.5, atol=0.02)


# --- limits of the families ---------------------------------------------------------------------------------


def value(d):
    return float(np.sum(Q * np.asarray(d.f(jnp.asarray(P / Q)))))


def test_alpha_family_tends_to_the_two_kls():
    kl, reverse = float(dv.discrete(dv.kl, P, Q)), float(dv.discrete(dv.reverse_kl, P, Q))
    for end, limit in [(1.0, kl), (0.0, reverse)]:
        np.testing.assert_allclose(value(alpha_divergence(end)), limit, rtol=1e-12)
        for epsilon in (1e-3, -1e-3):
            np.testing.assert_allclose(value(alpha_divergence(end + epsilon)), limit, rtol=2e-3)
    v = jnp.linspace(-3.0, 3.0, 13)
    near = alpha_divergence(1 - 1e-6)
    np.testing.assert_allclose(near.activation(v), v, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(near.penalty(v), np.expm1(v), rtol=1e-5)


def test_skewed_family_tends_to_the_two_kls():
    kl, reverse = float(dv.discrete(dv.kl, P, Q)), float(dv.discrete(dv.reverse_kl, P, Q))
    for weight, limit in [(1e-5, kl), (1 - 1e-5, reverse)]:
        np.testing.assert_allclose(
            value(skewed_jensen_shannon_divergence(weight, normalized=True)), limit, rtol=1e-4
        )


def test_known_members_of_the_families():
    u = jnp.linspace(0.1, 4.0, 20)
    hellinger, pearson = F_DIVERGENCES["squared_hellinger"], F_DIVERGENCES["pearson"]
    np.testing.assert_allclose(alpha_divergence(0.5).f(u), 2 * hellinger.f(u), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(alpha_divergence(2.0).f(u), pearson.f(u) / 2, rtol=1e-10, atol=1e-14)
    half = skewed_jensen_shannon_divergence(0.5)
    np.testing.assert_allclose(2 * half.f(u), F_DIVERGENCES["jensen_shannon"].f(u), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.2])
def test_skew_lies_strictly_between(weight):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        skewed_jensen_shannon_divergence(weight)
