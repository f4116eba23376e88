"""f-divergences as f-GANs use them: the generator f, its conjugate f*, an output activation g_f.

    D_f(P || Q) = E_Q[f(p / q)] >= E_P[T] - E_Q[f*(T)],   f*(t) = sup_u (t u - f(u))

with equality at T = f'(p / q). A critic's score v in R becomes T = g_f(v), inside the domain of f*. The bound
needs f*(g_f(v)), written here in one stable form each (`penalty`), since f* of an activation that has been
rounded to the end of its domain is infinite.

Nowozin et al., f-GAN, 2016, Tables 1, 2 and 6 (arXiv:1606.00709); the alpha and skewed Jensen-Shannon families
lie between the two KLs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.types import Array

Elementwise: TypeAlias = Callable[[Array], Array]
LOG2 = math.log(2.0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FDivergence:
    """The formulas of an f-divergence; all act elementwise.

    Attributes:
      name: the key in `F_DIVERGENCES`, or the family with its parameter.
      f: a convex function of the density ratio u > 0 with f(1) = 0 (-log 4 for `gan`).
      conjugate: f*(t), for t inside its domain.
      activation: g_f(v), from a score v in R to t, increasing.
      penalty: f*(g_f(v)), stable for every v.
      threshold: f'(1): the critic takes a sample with T above it for real.
      domain: the ends of the open interval of t on which `conjugate` holds.
    """

    name: str
    f: Elementwise
    conjugate: Elementwise
    activation: Elementwise
    penalty: Elementwise
    threshold: float
    domain: tuple[float, float] = (-math.inf, math.inf)


def lower_bound(divergence: FDivergence, real: Array, fake: Array) -> Array:
    """E_P[g_f(v)] - E_Q[f*(g_f(v))] from scores `[B]` of both: at most D_f(P || Q) in expectation, a scalar.

    >>> v = jnp.zeros(4)
    >>> round(float(lower_bound(F_DIVERGENCES["gan"], v, v)), 4)  # -log 4 at D = 1/2
    -1.3863
    """
    return jnp.mean(divergence.activation(real)) - jnp.mean(divergence.penalty(fake))


def _xlogx(u: Array) -> Array:
    return jax.scipy.special.xlogy(u, u)


@jax.custom_jvp
def log_wright_omega(z: Array) -> Array:
    """log w for the solution w > 0 of w + log w = z, that is of w e^w = e^z: `log W(e^z)`.

    It is the Lambert W of the f-GAN tables without its overflowing argument, by Newton's method on y + e^y = z. The
    function is convex in y and the iteration starts to the right of the root, so that it decreases to it.

    >>> print(jnp.exp(log_wright_omega(jnp.array([1.0, 2.6931472]))))  # 1 + log 1, 2 + log 2
    [1. 2.]
    """
    z = jnp.asarray(z)
    start = jnp.where(z > 1, jnp.log(jnp.maximum(z, 1.0)), z)

    def newton(_: Array | int, y: Array) -> Array:
        e = jnp.exp(y)
        return y - (y + e - z) / (1 + e)

    return jax.lax.fori_loop(0, 8, newton, start)


@log_wright_omega.defjvp
def _log_wright_omega_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = log_wright_omega(primals[0])
    return y, tangents[0] / (1 + jnp.exp(y))


def _jeffrey_conjugate(t: Array) -> Array:
    y = log_wright_omega(1 - t)
    return jnp.exp(y) + jnp.exp(-y) + t - 2


F_DIVERGENCES: dict[str, FDivergence] = {
    divergence.name: divergence
    for divergence in (
        FDivergence(
            name="kl",
            f=_xlogx,
            conjugate=lambda t: jnp.exp(t - 1),
            activation=lambda v: v,
            penalty=lambda v: jnp.exp(v - 1),
            threshold=1.0,
        ),
        FDivergence(
            name="reverse_kl",
            f=lambda u: -jnp.log(u),
            conjugate=lambda t: -1 - jnp.log(-t),
            activation=lambda v: -jnp.exp(-v),
            penalty=lambda v: v - 1,
            threshold=-1.0,
            domain=(-math.inf, 0.0),
        ),
        FDivergence(
            name="pearson",
            f=lambda u: jnp.square(u - 1),
            # Below t = -2 the supremum is -1, at u = 0; the parabola stays above it: a looser bound.
            conjugate=lambda t: jnp.square(t) / 4 + t,
            activation=lambda v: v,
            penalty=lambda v: jnp.square(v) / 4 + v,
            threshold=0.0,
            domain=(-2.0, math.inf),
        ),
        FDivergence(
            name="neyman",
            f=lambda u: jnp.square(1 - u) / u,
            conjugate=lambda t: 2 - 2 * jnp.sqrt(1 - t),
            activation=lambda v: -jnp.expm1(-v),
            penalty=lambda v: -2 * jnp.expm1(-v / 2),
            threshold=0.0,
            domain=(-math.inf, 1.0),
        ),
        FDivergence(
            name="squared_hellinger",
            f=lambda u: jnp.square(jnp.sqrt(u) - 1),
            conjugate=lambda t: t / (1 - t),
            activation=lambda v: -jnp.expm1(-v),
            penalty=jnp.expm1,
            threshold=0.0,
            domain=(-math.inf, 1.0),
        ),
        FDivergence(
            name="jeffrey",
            f=lambda u: (u - 1) * jnp.log(u),
            conjugate=_jeffrey_conjugate,
            activation=lambda v: v,
            penalty=_jeffrey_conjugate,
            threshold=0.0,
        ),
        FDivergence(
            name="jensen_shannon",  # twice the usual JSD
            f=lambda u: _xlogx(u) - (u + 1) * jnp.log((1 + u) / 2),
            conjugate=lambda t: -jnp.log(2 - jnp.exp(t)),
            activation=lambda v: LOG2 - jax.nn.softplus(-v),
            penalty=lambda v: jax.nn.softplus(v) - LOG2,
            threshold=0.0,
            domain=(-math.inf, LOG2),
        ),
        FDivergence(
            name="gan",  # 2 JSD - log 4
            f=lambda u: _xlogx(u) - (u + 1) * jnp.log(u + 1),
            conjugate=lambda t: -jnp.log(-jnp.expm1(t)),
            activation=lambda v: -jax.nn.softplus(-v),
            penalty=jax.nn.softplus,
            threshold=-LOG2,
            domain=(-math.inf, 0.0),
        ),
        FDivergence(
            name="total_variation",
            f=lambda u: jnp.abs(u - 1) / 2,
            conjugate=lambda t: t,
            activation=lambda v: jnp.tanh(v) / 2,
            penalty=lambda v: jnp.tanh(v) / 2,
            threshold=0.0,
            domain=(-0.5, 0.5),
        ),
    )
}
"""The f-divergences of the f-GAN tables by name."""


def alpha_divergence(alpha: float) -> FDivergence:
    """f(u) = (u^a - 1 - a (u - 1)) / (a (a - 1)): KL(P || Q) as a -> 1, KL(Q || P) as a -> 0.

    The activation is (e^((a - 1) v) - 1) / (a - 1), for which the optimal score is log p - log q for every a.

    Args:
      alpha: any real number; 0 and 1 are the limits, 1/2 is twice the squared Hellinger distance, 2 half the
        Pearson divergence.

    >>> u = jnp.array(4.0)
    >>> round(float(alpha_divergence(0.5).f(u)), 4)  # 2 (sqrt 4 - 1)^2
    2.0
    """
    a = float(alpha)

    def power(exponent: float, v: Array) -> Array:
        """(e^(exponent v) - 1) / exponent."""
        return jnp.asarray(v) if exponent == 0 else jnp.expm1(exponent * v) / exponent

    def f(u: Array) -> Array:
        if a == 1:
            return _xlogx(u) - u + 1
        if a == 0:
            return u - 1 - jnp.log(u)
        return (power(a, jnp.log(u)) - (u - 1)) / (a - 1)

    def log_ratio(t: Array) -> Array:
        """log u from t = f'(u)."""
        return jnp.asarray(t) if a == 1 else jnp.log1p((a - 1) * t) / (a - 1)

    if a == 1:
        domain = (-math.inf, math.inf)
    else:
        end = -1 / (a - 1)
        domain = (end, math.inf) if a > 1 else (-math.inf, end)
    return FDivergence(
        name=f"alpha={a:g}",
        f=f,
        conjugate=lambda t: power(a, log_ratio(t)),
        activation=lambda v: power(a - 1, v),
        penalty=lambda v: power(a, v),
        threshold=0.0,
        domain=domain,
    )


def skewed_jensen_shannon_divergence(weight: float, *, normalized: bool = False) -> FDivergence:
    """w KL(P || M) + (1 - w) KL(Q || M), M = w P + (1 - w) Q: the JSD at w = 1/2.

    Divided by w (1 - w), it tends to KL(P || Q) as w -> 0 and to KL(Q || P) as w -> 1. The optimal score is
    log p - log q.

    Args:
      weight: w, strictly between 0 and 1.
      normalized: divide by w (1 - w).

    Raises:
      ValueError: unless 0 < weight < 1.
    """
    w = float(weight)
    if not 0 < w < 1:
        raise ValueError(
            f"The skew must lie strictly between 0 and 1, got {weight}; its limits are the two KLs."
        )
    scale = 1 / (w * (1 - w)) if normalized else 1.0
    logit = math.log(w) - math.log1p(-w)

    def f(u: Array) -> Array:
        m = w * u + (1 - w)
        return scale * (w * _xlogx(u) - m * jnp.log(m))

    def conjugate(t: Array) -> Array:
        return scale * (1 - w) * (math.log1p(-w) - jnp.log1p(-w * jnp.exp(t / (scale * w))))

    return FDivergence(
        name=f"skewed_js={w:g}",
        f=f,
        conjugate=conjugate,
        activation=lambda v: -scale * w * (jax.nn.softplus(-(v + logit)) + math.log(w)),
        penalty=lambda v: scale * (1 - w) * (jax.nn.softplus(v + logit) + math.log1p(-w)),
        threshold=0.0,
        domain=(-math.inf, -scale * w * math.log(w)),
    )
