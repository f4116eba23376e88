"""Wasserstein distances between samples: exact, in one dimension, and sliced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial.distance import cdist

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.estimate import Estimate

MOST_ORDER = 16
"""Powers of distances beyond this order are lost in the solvers' tolerances, or leave float64's range."""
_MAX_PAIRS = 1 << 28  # a cost matrix of 2 GiB
PROJECTIONS = 256
"""The directions of `sliced_wasserstein` by default."""


def wasserstein(
    real: ArrayLike,
    fake: ArrayLike,
    order: float = 1.0,
    *,
    real_weights: ArrayLike | None = None,
    fake_weights: ArrayLike | None = None,
    solver: str = "auto",
) -> float:
    """The exact Wasserstein distance between two sets of samples, with Euclidean ground distance.

    `W_p = (min over couplings of E |x - y|^p)^(1/p)`. For samples it is biased upwards: two sets from the same
    distribution have a distance of about `N^(-1/D)`. Time is O(N M D) for the costs and up to O(N^3) for the
    assignment, memory O(N M).

    Args:
      real: `[N, ...]`.
      fake: `[M, ...]`.
      order: p, from 1 to 16.
      real_weights, fake_weights: `[N]`, `[M]`, normalised to sum 1; uniform by default.
      solver: `"pot"` (network simplex, the `metrics` extra), `"assignment"` (scipy; as many samples on both
        sides, no weights), `"linear"` (scipy's HiGHS; hundreds of samples), or `"auto"`, the first that applies.

    Returns:
      W_p, a float.

    Raises:
      ValueError: for bad samples or weights, an order that is none, a solver that does not apply, or more than 2^28
        pairs.
      RuntimeError: if the solver does not reach the optimum.

    >>> wasserstein([[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [4.0, 4.0]])
    5.0
    """
    first, second = as_pair(real, fake)
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"A Wasserstein distance here has an order from 1 to {MOST_ORDER}, got {order}.")
    weights = _weights(real_weights, len(first), "real"), _weights(fake_weights, len(second), "fake")
    cost = ground_cost(first, second, order)
    uniform = real_weights is None and fake_weights is None
    return float(max(_optimal_cost(cost, *weights, uniform, solver), 0.0) ** (1 / order))


def ground_cost(real: np.ndarray, fake: np.ndarray, order: float = 1.0) -> np.ndarray:
    """`|x_i - y_j|^order`, `[N, M]`.

    Raises:
      ValueError: for more than 2^28 pairs.
    """
    if len(real) * len(fake) > _MAX_PAIRS:
        raise ValueError(
            f"{len(real)} x {len(fake)} samples need a cost matrix of {len(real) * len(fake) * 8 / 2**30:.0f} "
            "GiB: use fewer samples, or sliced_wasserstein."
        )
    if order == 2:
        return cdist(real, fake, "sqeuclidean")
    distance = cdist(real, fake)
    return distance if order == 1 else distance**order


def _pot() -> Any:
    """The POT package, or `None` if it is not installed; it is optional and takes seconds to import."""
    try:
        import ot
    except ImportError:
        return None
    return ot


def _optimal_cost(cost: np.ndarray, p: np.ndarray, q: np.ndarray, uniform: bool, solver: str) -> float:
    square = uniform and cost.shape[0] == cost.shape[1]
    if solver == "auto":
        solver = "pot" if _pot() is not None else "assignment" if square else "linear"
    if solver == "pot":
        return _network_simplex(cost, p, q)
    if solver == "assignment":
        if not square:
            raise ValueError(
                f"An assignment needs equally many samples on both sides without weights, got {cost.shape[0]} and "
                f"{cost.shape[1]}{'' if uniform else ' with weights'}: install POT, or use solver='linear'."
            )
        from scipy.optimize import linear_sum_assignment  # imported here, as it takes half a second

        return float(cost[linear_sum_assignment(cost)].mean())
    if solver == "linear":
        return solve_primal(cost, p, q)
    raise ValueError(f"Unknown solver {solver!r}: 'auto', 'pot', 'assignment' or 'linear'.")


def _network_simplex(cost: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    ot = _pot()
    if ot is None:
        raise ValueError("solver='pot' needs the POT package: pip install POT, or solver='assignment'.")
    scale = cost_scale(cost, p, q)
    value, log = ot.emd2(p, q, cost / scale, numItermax=100_000_000, log=True)
    if log["warning"]:
        raise RuntimeError(f"POT did not reach the optimum: {log['warning']}")
    return float(value) * scale


def cost_scale(cost: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """What costs are divided by before they are given to a solver, whose tolerances are absolute numbers.

    It is a lower bound of the optimum, where that is not lost in rounding: the mean cost of the nearest partners.
    """
    largest = float(cost.max())
    lower = max(float(p @ cost.min(axis=1)), float(q @ cost.min(axis=0)))
    return lower if lower > 1e-15 * largest else largest or 1.0


def solve_primal(cost: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """`min <T, cost>` over couplings T of the weights `p` `[N]` and `q` `[M]`, by HiGHS.

    Raises:
      RuntimeError: if the solver finds no optimum.
    """
    from scipy.optimize import linprog

    n, m = cost.shape
    rows = sparse.kron(sparse.eye(n), np.ones((1, m)))
    columns = sparse.kron(np.ones((1, n)), sparse.eye(m))
    constraints = sparse.vstack([rows, columns], format="csr")
    # One constraint follows from the others, and rounding of the weights must not contradict it.
    marginals, scale = np.concatenate([p, q])[:-1], cost_scale(cost, p, q)
    solution = linprog(cost.ravel() / scale, A_eq=constraints[:-1], b_eq=marginals, method="highs")
    return optimum(solution, "primal") * scale


def optimum(solution: Any, name: str) -> float:
    """The value of a solved linear programme.

    Raises:
      RuntimeError: with the solver's message, if it was not solved.
    """
    if solution.status != 0:
        raise RuntimeError(f"The {name} linear programme was not solved: {solution.message}")
    return float(solution.fun)


def _weights(weights: ArrayLike | None, number: int, name: str) -> np.ndarray:
    if weights is None:
        return np.full(number, 1 / number)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (number,) or not np.isfinite(given).all() or (given < 0).any() or not given.sum() > 0:
        raise ValueError(f"{name}: weights are {number} numbers >= 0 with a positive sum, got {given}.")
    return given / given.sum()


def wasserstein_1d(
    real: ArrayLike,
    fake: ArrayLike,
    order: float = 1.0,
    *,
    real_weights: ArrayLike | None = None,
    fake_weights: ArrayLike | None = None,
) -> float:
    """The exact distance in one dimension: `W_p^p` is the integral of `|F^-1 - G^-1|^p` over the quantiles.

    Time is O((N + M) log (N + M)), memory O(N + M).

    Args:
      real: `[N]` or `[N, 1]`; with weights, a discrete distribution.
      fake: `[M]` or `[M, 1]`.
      order: p, from 1 to 16.
      real_weights, fake_weights: as in `wasserstein`.

    Raises:
      ValueError: as for `wasserstein`, and if samples have more than one dimension.

    >>> wasserstein_1d([0.0, 1.0], [2.0, 5.0], order=2)
    3.1622776601683795
    """
    first, second = as_pair(real, fake)
    if first.shape[1] != 1 or not 1 <= order <= MOST_ORDER:
        raise ValueError(
            f"wasserstein_1d needs one dimension and an order from 1 to {MOST_ORDER}, got {first.shape[1]} "
            f"dimensions, order {order}."
        )
    x, y = np.argsort(first[:, 0], kind="stable"), np.argsort(second[:, 0], kind="stable")
    p = np.cumsum(_weights(real_weights, len(first), "real")[x])
    q = np.cumsum(_weights(fake_weights, len(second), "fake")[y])
    return float(_line_cost(first[x, 0][:, None], second[y, 0][:, None], p, q, order)[0] ** (1 / order))


def _line_cost(x: np.ndarray, y: np.ndarray, p: np.ndarray, q: np.ndarray, order: float) -> np.ndarray:
    """`W_p^p` for each column: sorted samples `[N, L]`, `[M, L]`, cumulative weights `[N]`, `[M]`."""
    if len(x) == len(y) and np.array_equal(p, q):
        widths, first, second = np.diff(p, prepend=0.0), x, y
    else:
        levels = np.sort(np.concatenate([p, q]))
        widths = np.diff(levels, prepend=0.0)
        # In the interior of a piece of the quantile axis each side's quantile is a single sample.
        middles = levels - widths / 2
        first = x[np.minimum(np.searchsorted(p, middles), len(x) - 1)]
        second = y[np.minimum(np.searchsorted(q, middles), len(y) - 1)]
    gap = np.abs(first - second)
    return widths @ (gap if order == 1 else gap**order)


def sliced_wasserstein(
    real: ArrayLike,
    fake: ArrayLike,
    order: float = 2.0,
    *,
    projections: int | np.ndarray = PROJECTIONS,
    seed: int = 0,
) -> Estimate:
    """The distance on random lines, `(mean over directions of W_p^p)^(1/p)` (Bonneel et al., 2015).

    With L lines time is O((N + M) L (D + log (N + M))), memory O(N + M + D L) beside the samples.

    Args:
      real: `[N, ...]`.
      fake: `[M, ...]`.
      order: p, from 1 to 16.
      projections: how many directions are drawn uniformly on the sphere, or the directions `[D, L]` themselves.
      seed: the seed of the directions.

    Returns:
      The distance, and its standard error over the directions (the samples held fixed).

    Raises:
      ValueError: for bad samples, an order that is none, or directions of another dimension or of length 0.

    >>> float(sliced_wasserstein([[0.0]], [[3.0]], projections=4))
    3.0
    """
    first, second = as_pair(real, fake, dtype=None)
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"A Wasserstein distance here has an order from 1 to {MOST_ORDER}, got {order}.")
    directions = random_directions(projections, first.shape[1], seed)
    p, q = (np.arange(1, len(side) + 1) / len(side) for side in (first, second))
    block = max(1, (1 << 24) // max(len(first), len(second)))
    costs: list[np.ndarray] = []
    for start in range(0, directions.shape[1], block):
        lines = directions[:, start : start + block]
        x, y = (np.sort(project(side, lines), axis=0) for side in (first, second))
        costs.append(_line_cost(x, y, p, q, order))
    cost = np.concatenate(costs)
    value = float(cost.mean() ** (1 / order))
    if len(cost) < 2:
        return Estimate(value, float("nan"))
    spread = float(cost.std(ddof=1) / np.sqrt(len(cost)))
    return Estimate(value, spread * value / (order * float(cost.mean())) if value else 0.0)


def random_directions(projections: Any, dimension: int, seed: int) -> np.ndarray:
    """Unit columns `[D, L]`."""
    if isinstance(projections, int | np.integer):
        if projections < 1:
            raise ValueError(f"The number of projections must be at least 1, got {projections}.")
        normal = np.random.default_rng(seed).normal(size=(dimension, int(projections)))
        return normal / np.linalg.norm(normal, axis=0)
    directions = as_samples(projections, "projections")
    if directions.shape[0] != dimension:
        raise ValueError(f"Directions must be [D, L] with D = {dimension}, got {directions.shape}.")
    if not np.linalg.norm(directions, axis=0).all():
        raise ValueError("The directions of projections have a length: of some all entries are 0.")
    return directions / np.linalg.norm(directions, axis=0)


def project(samples: np.ndarray, directions: np.ndarray, rows: int = 8192) -> np.ndarray:
    """`samples @ directions` in float64, by rows, so that float32 samples are not copied as a whole."""
    pieces = [
        samples[start : start + rows].astype(np.float64, copy=False) @ directions
        for start in range(0, len(samples), rows)
    ]
    return np.concatenate(pieces)
