"""The Monge inception distance (Berthet et al., 2026): a sliced transport distance on the scale of FID."""

from __future__ import annotations

from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.estimate import Estimate
from gan_jax.metrics.transport import sliced_wasserstein

DIRECTIONS = 1000


def monge_distance(
    real: ArrayLike, fake: ArrayLike, *, directions: int = DIRECTIONS, seed: int = 0
) -> Estimate:
    """`3 d mean_u W_2^2(u . x, u . y)` over directions u, of features of d dimensions; MIND of Inception's pool.

    A shift of all samples by v has the distance `3 |v|^2` on average over directions. Sets of different sizes are
    compared by their exact quantile functions, where torch-fidelity takes a part of the larger set.

    Args:
      real: features `[N, d]`.
      fake: features `[M, d]`.
      directions: the number of directions.
      seed: their seed.

    Returns:
      The distance, and its standard error over the directions (the samples held fixed).

    Raises:
      ValueError: as for `sliced_wasserstein`.

    References:
      Berthet et al., MIND: Monge Inception Distance for Generative Models Evaluation, 2026 (arXiv:2605.06797).

    >>> float(monge_distance([[0.0], [1.0]], [[2.0], [3.0]]))
    12.0
    """
    first, second = as_pair(real, fake, dtype=None)
    sliced = sliced_wasserstein(first, second, 2.0, projections=directions, seed=seed)
    scale = 3 * first.shape[1]
    return Estimate(scale * sliced.value**2, scale * 2 * sliced.value * sliced.standard_error)
