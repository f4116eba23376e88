"""Kantorovich-Rubinstein duality on point sets: the primal and dual linear programmes, and a critic's estimate.

    W1(P, Q) = min over couplings E |x - y| = max over 1-Lipschitz D of E_P D - E_Q D.

A trained critic's `E_P D - E_Q D`, divided by its Lipschitz constant, is a lower bound of W1. On a finite set of
points the relevant constant is the largest slope over pairs of those points; the gradient elsewhere may be larger,
and is reported separately. A slope between near points is a small difference of two scores: give a critic that
computes in float32, since scores that are rounded to bfloat16 have slopes that the critic has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial.distance import cdist

from gan_jax.metrics._check import as_floats, as_pair
from gan_jax.metrics.transport import cost_scale, ground_cost, optimum, solve_primal, wasserstein


def solve_dual(real: np.ndarray, fake: np.ndarray) -> tuple[float, np.ndarray]:
    """`max mean D(real) - mean D(fake)` over D that are 1-Lipschitz on all points, by HiGHS.

    The programme has a constraint for every pair of a real and a fake point, `f_i - g_j <= |x_i - y_j|`; the
    potential `D(x) = min_j g_j + |x - y_j|` is then 1-Lipschitz everywhere, and no worse than (f, g).

    Args:
      real: `[N, D]`.
      fake: `[M, D]`.

    Returns:
      The maximum and the optimal potential `[N + M]`, at the real points, then at the fake ones.

    Raises:
      RuntimeError: if the solver finds no optimum.
    """
    from scipy.optimize import linprog  # imported here, as it takes half a second

    n, m = len(real), len(fake)
    above = sparse.kron(sparse.eye(n), np.ones((m, 1)))
    below = sparse.kron(np.ones((n, 1)), sparse.eye(m))
    objective = np.r_[np.full(n, -1 / n), np.full(m, 1 / m)]
    bounds = [(0.0, 0.0)] + [(None, None)] * (n + m - 1)  # a constant added to D changes nothing
    cost = cdist(real, fake)
    scale = cost_scale(cost, np.full(n, 1 / n), np.full(m, 1 / m))
    solution = linprog(
        objective,
        A_ub=sparse.hstack([above, -below], format="csr"),
        b_ub=cost.ravel() / scale,
        bounds=bounds,
        method="highs",
    )
    value = -optimum(solution, "dual") * scale
    at_fake = solution.x[n:] * scale
    return value, (at_fake + cdist(np.concatenate([real, fake]), fake)).min(axis=1)


class LipschitzViolation(NamedTuple):
    """Lower bounds of a critic's Lipschitz constant.

    Attributes:
      largest_slope: the largest `|D(x) - D(y)| / |x - y|` over pairs of different points.
      largest_gradient: the largest `|grad D|` over the points and over random points between pairs.
    """

    largest_slope: float
    largest_gradient: float

    @property
    def constant(self) -> float:
        """The larger of the two: a lower bound of the critic's Lipschitz constant."""
        return max(self.largest_slope, self.largest_gradient)


class Duality(NamedTuple):
    """W1 on point sets: primal value, dual value, and a critic's bound.

    Attributes:
      primal: the cheapest coupling's cost.
      dual: the best 1-Lipschitz potential's difference of means; equals `primal`.
      potential: the optimal potential `[N + M]`, at the real points, then at the fake ones.
      critic: `mean D(real) - mean D(fake)`; `None` without a critic.
      lipschitz: the critic's slopes; `None` without a critic.
      bound: `critic` over its largest slope on the points: at most `primal`, except for float32 rounding of the
        scores.
      gap: `primal - bound`.
    """

    primal: float
    dual: float
    potential: np.ndarray
    critic: float | None = None
    lipschitz: LipschitzViolation | None = None
    bound: float | None = None
    gap: float | None = None


def kantorovich_rubinstein(
    real: ArrayLike, fake: ArrayLike, critic: Callable[[jax.Array], jax.Array] | None = None, *, seed: int = 0
) -> Duality:
    """Computes both sides of the duality on point sets, and the bound that a trained critic attains.

    Time is that of two linear programmes with a variable or a constraint for every pair, minutes for 800
    points; memory is O((N + M)^2).

    Args:
      real: `[N, ...]`, N + M in the hundreds (the dual has a constraint for every pair).
      fake: `[M, ...]`.
      critic: `[B, ...] -> [B]`, a differentiable JAX function; scores of real points are the higher ones.
      seed: the seed of the points between pairs at which gradients are taken.

    Returns:
      A `Duality`.

    Raises:
      ValueError: for bad samples, more than 800 points, or points that the critic's dtype does not hold.
      RuntimeError: if a linear programme is not solved.

    >>> check = kantorovich_rubinstein([[0.0], [1.0]], [[3.0], [4.0]], critic=lambda x: -2.0 * x[:, 0])
    >>> numbers = (check.primal, check.dual, check.critic, check.lipschitz.largest_slope, check.gap)
    >>> tuple(round(number, 12) for number in numbers)
    (3.0, 3.0, 6.0, 2.0, 0.0)
    """
    first, second = as_pair(real, fake)
    if len(first) + len(second) > 800:
        raise ValueError(
            f"The dual programme holds every pair of points: at most 800, got {len(first) + len(second)}."
        )
    p, q = (np.full(len(side), 1 / len(side)) for side in (first, second))
    duality = Duality(solve_primal(ground_cost(first, second), p, q), *solve_dual(first, second))
    if critic is None:
        return duality
    value, lipschitz = _critic_estimate(critic, np.asarray(real), np.asarray(fake), seed)
    bound = value / lipschitz.largest_slope if lipschitz.largest_slope > 0 else 0.0
    return duality._replace(critic=value, lipschitz=lipschitz, bound=bound, gap=duality.primal - bound)


def critic_gap(
    real: ArrayLike, fake: ArrayLike, critic: Callable[[jax.Array], jax.Array], *, seed: int = 0
) -> Duality:
    """Computes W1 and a critic's bound for thousands of points, by exact transport without the dual programme.

    Time and memory are those of `wasserstein` and `lipschitz_violation`: up to O(N^3) and O((N + M)^2).

    In the result `dual` is the primal value and `potential` is empty.
    """
    primal = wasserstein(real, fake, 1.0)
    value, lipschitz = _critic_estimate(critic, np.asarray(real), np.asarray(fake), seed)
    bound = value / lipschitz.largest_slope if lipschitz.largest_slope > 0 else 0.0
    return Duality(primal, primal, np.zeros(0), value, lipschitz, bound, primal - bound)


def lipschitz_violation(
    critic: Callable[[jax.Array], jax.Array], points: ArrayLike, *, seed: int = 0
) -> LipschitzViolation:
    """The largest slope of a critic over pairs of points, and the largest gradient at and between them.

    Time is O(B^2 D) and 2 B gradients, memory O(B^2 + B D).

    Args:
      critic: `[B, ...] -> [B]`, per example.
      points: `[B, ...]`.
      seed: the seed of the points between pairs.

    Raises:
      ValueError: if points are not finite, or the dtype that JAX computes in does not hold them.

    >>> slopes = lipschitz_violation(lambda x: 3.0 * x[:, 0], [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> slopes.largest_slope, slopes.largest_gradient
    (3.0, 3.0)
    """
    x = _as_inputs(points)
    scores = np.asarray(critic(x), dtype=np.float64)
    flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    distance = cdist(flat, flat)
    rises = np.abs(scores[:, None] - scores)
    distinct = distance > 0
    slope = float((rises[distinct] / distance[distinct]).max()) if distinct.any() else 0.0
    draw = np.random.default_rng(seed)
    weight = draw.uniform(size=(len(x), *(1,) * (x.ndim - 1)))
    between = jnp.asarray(
        weight * np.asarray(x) + (1 - weight) * np.asarray(x)[draw.permutation(len(x))], x.dtype
    )
    gradients = jax.grad(lambda at: critic(at).sum())(jnp.concatenate([x, between]))
    norms = np.linalg.norm(np.asarray(gradients, dtype=np.float64).reshape(2 * len(x), -1), axis=1)
    return LipschitzViolation(slope, float(norms.max()))


def _as_inputs(points: ArrayLike) -> jax.Array:
    """Points in the dtype that JAX computes in, float32 by default.

    Raises:
      ValueError: if that dtype does not hold them.
    """
    return jnp.asarray(as_floats(np.asarray(points), "points", jax.dtypes.canonicalize_dtype(float).type))


def _critic_estimate(
    critic: Callable[[jax.Array], jax.Array], real: np.ndarray, fake: np.ndarray, seed: int
) -> tuple[float, LipschitzViolation]:
    """`mean D(real) - mean D(fake)`, and the critic's slopes on these points."""
    points = np.concatenate([real, fake])
    scores = np.asarray(critic(_as_inputs(points)), dtype=np.float64)
    if scores.shape != (len(points),):
        raise ValueError(
            f"The critic must return scores [{len(points)}], one per example; got {scores.shape}."
        )
    difference = scores[: len(real)].mean() - scores[len(real) :].mean()
    return float(difference), lipschitz_violation(critic, points, seed=seed)
