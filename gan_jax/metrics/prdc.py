"""Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020), in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair

_CELLS = 1 << 24  # distances held at once: 128 MiB


def precision_recall_density_coverage(
    real: ArrayLike, fake: ArrayLike, *, neighbors: int = 5
) -> dict[str, float]:
    """How much of the fakes lies among the reals, and the other way round.

    Around every sample lies a ball that reaches to its k-th nearest neighbour in its own set. Precision is the
    share of fakes in some real ball, recall the share of reals in some fake ball, density the mean number of real
    balls that a fake lies in over k (it can exceed 1), coverage the share of real balls that hold a fake. The full
    matrix of distances is never in memory.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      neighbors: k.

    Returns:
      `precision`, `recall`, `density`, `coverage`.

    Raises:
      ValueError: where features are not finite, dimensions differ, or a set has no k-th neighbour.

    >>> rng = np.random.default_rng(0)
    >>> found = precision_recall_density_coverage(rng.normal(size=(50, 2)), 50 + rng.normal(size=(50, 2)))
    >>> found["precision"], found["recall"], found["density"], found["coverage"]
    (0.0, 0.0, 0.0, 0.0)
    """
    if neighbors < 1:
        raise ValueError(f"Balls reach to the k-th neighbour, k >= 1, got {neighbors}.")
    first, second = as_pair(real, fake, at_least=neighbors + 1, dtype=None)
    # Distances come from inner products: about a common centre these are small, and little is cancelled.
    center = first.mean(axis=0, dtype=np.float64)
    first, second = (np.subtract(side, center, dtype=np.float64) for side in (first, second))
    real_reach, fake_reach = (_neighbor_distance(side, neighbors) for side in (first, second))
    in_fake_ball = np.zeros(len(first), dtype=bool)
    covered = np.zeros(len(first), dtype=bool)
    real_balls = np.zeros(len(second), dtype=np.int64)
    for rows, squared in _squared_distances(first, second):
        in_fake_ball[rows] = (squared < fake_reach).any(axis=1)
        in_real_ball = squared < real_reach[rows, None]
        covered[rows] = in_real_ball.any(axis=1)
        real_balls += in_real_ball.sum(axis=0)
    return {
        "precision": float((real_balls > 0).mean()),
        "recall": float(in_fake_ball.mean()),
        "density": float(real_balls.mean() / neighbors),
        "coverage": float(covered.mean()),
    }


def _neighbor_distance(samples: np.ndarray, neighbors: int) -> np.ndarray:
    """The squared distance to the k-th nearest other sample, `[N]`."""
    reach = np.empty(len(samples))
    for rows, squared in _squared_distances(samples, samples):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.start + len(squared))] = np.inf
        reach[rows] = np.partition(squared, neighbors - 1, axis=1)[:, neighbors - 1]
    return reach


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """`|x_i - y_j|^2` by blocks of rows."""
    x_norms, y_norms = (np.einsum("nd,nd->n", side, side) for side in (x, y))
    step = max(1, _CELLS // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        squared = x[rows] @ y.T
        squared *= -2
        squared += x_norms[rows, None]
        squared += y_norms
        yield rows, np.maximum(squared, 0, out=squared)
