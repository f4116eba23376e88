"""The Monge inception distance (Berthet et al., 2026): a sliced transport distance on the scale of FID."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.estimate import Bootstrap, Estimate
from gan_jax.metrics.transport import project, random_directions, sliced_wasserstein

DIRECTIONS = 1000
_FULL_DIRECTIONS = 32
_LINEAR_DRAWS = 2000
_CELLS = 1 << 24  # projections in memory at a time, 128 MiB


def monge_distance(
    real: ArrayLike, fake: ArrayLike, *, directions: int = DIRECTIONS, seed: int = 0
) -> Estimate:
    """`3 d mean_u W_2^2(u . x, u . y)` over directions u, of features of d dimensions; MIND of Inception's pool.

    A shift of all samples by v has the distance `3 |v|^2` on average over directions. Sets of different sizes are
    compared by their exact quantile functions, where torch-fidelity takes a part of the larger set. With L
    directions time is O((N + M) L (d + log (N + M))), memory O(N + M + d L) beside the features.

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


def monge_bootstrap(
    real: ArrayLike,
    fakes: Sequence[ArrayLike],
    *,
    directions: int = DIRECTIONS,
    resamples: int = 20,
    seed: int = 0,
) -> Bootstrap:
    """The bootstrap of the Monge distances of several sets of fakes, with the same resamples of the real samples.

    The directions are held fixed. The first-order part of the distance, a mean of one number per sample over all
    directions, is resampled 2,000 times; the remainder, including the bias, is estimated from full resamples on a
    few directions, as in `frechet_interval`. Time is that of `monge_distance` for each set, and
    O(resamples (N + M)) on 32 directions.

    Args:
      real: features `[N, d]`.
      fakes: features `[M, d]` of each set.
      directions, seed: as in `monge_distance`.
      resamples: full resamples.

    Raises:
      ValueError: as for `monge_distance`.

    References:
      Manole, Balakrishnan and Wasserman, Minimax confidence intervals for the sliced Wasserstein distance, 2022
      (arXiv:1909.07862); Efron, More Efficient Bootstrap Computations, 1990.
    """
    sides = [as_pair(real, fake, at_least=2, dtype=None) for fake in fakes]
    first, others = sides[0][0], [other for _, other in sides]
    lines = random_directions(directions, first.shape[1], seed)
    scale = 3 * first.shape[1]
    found = [_influences(first, other, lines) for other in others]
    rng = np.random.default_rng(seed)
    few = lines[:, :_FULL_DIRECTIONS]
    remainders = _remainders(first, others, few, resamples, rng)
    draws = np.empty((len(others), _LINEAR_DRAWS))
    real_parts = [part for _, part, _ in found]
    for draw in range(_LINEAR_DRAWS):
        rows = rng.integers(len(first), size=len(first))
        draws[:, draw] = [part[rows].mean() for part in real_parts]
    for place, (_, _, part) in enumerate(found):
        number = len(part)
        draws[place] += [part[rng.integers(number, size=number)].mean() for _ in range(_LINEAR_DRAWS)]
    values = np.array([value for value, _, _ in found])
    all_draws = values[:, None, None] + draws[:, :, None] + remainders[:, None, :]
    return Bootstrap(
        scale * values, scale * all_draws.reshape(len(others), -1), min(map(len, (first, *others))) - 1
    )


def _influences(
    first: np.ndarray, second: np.ndarray, lines: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean of `W_2^2` over lines `[d, L]`, and how much each sample moves it, `[N]` and `[M]`, means 0."""
    total, of_first, of_second = 0.0, np.zeros(len(first)), np.zeros(len(second))
    step = max(1, _CELLS // max(len(first), len(second)))
    for start in range(0, lines.shape[1], step):
        block = lines[:, start : start + step]
        x, y = project(first, block), project(second, block)
        for column in range(block.shape[1]):
            order, other_order = np.argsort(x[:, column]), np.argsort(y[:, column])
            u, v = x[order, column], y[other_order, column]
            total += _squared_cost(u, v)
            of_first[order] += _potential(u, v)
            of_second[other_order] += _potential(v, u)
    number = lines.shape[1]
    return total / number, of_first / number, of_second / number


def _squared_cost(u: np.ndarray, v: np.ndarray) -> float:
    """`W_2^2` of sorted samples `[N]` and `[M]`."""
    widths, i, j = _pieces(len(u), len(v))
    return float(widths @ (u[i] - v[j]) ** 2)


@functools.lru_cache(maxsize=4)
def _pieces(first: int, second: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The widths of the pieces of the quantile axis on which both sides have one sample, and which these are."""
    levels = np.unique(
        np.concatenate([np.arange(1, n + 1) * m for n, m in ((first, second), (second, first))])
    )
    widths = np.diff(levels, prepend=0) / (first * second)
    return widths, (levels - 1) // second, (levels - 1) // first


def _potential(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Kantorovich's potential of sorted samples `[N]` for the squared cost against `[M]`, its mean taken off.

    Between neighbours it grows by `(u' - t)^2 - (u - t)^2` for t where the transport passes from one to the other.
    """
    edges = np.arange(1, len(u)) * len(v)
    below, above = v[-(-edges // len(u)) - 1], v[np.minimum(edges // len(u), len(v) - 1)]
    grown = np.cumsum(np.diff(u) * (u[1:] + u[:-1] - below - above))
    potential = np.concatenate([[0.0], grown])
    return potential - potential.mean()


def _remainders(
    first: np.ndarray,
    others: Sequence[np.ndarray],
    lines: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """What resamples change beyond the first order, over these lines: `[F, resamples]`."""
    counts = [_counts(len(first), resamples, rng)]
    counts += [_counts(len(other), resamples, rng) for other in others]
    x, ys = project(first, lines), [project(other, lines) for other in others]
    found = np.zeros((len(others), resamples))
    for column in range(lines.shape[1]):
        order = np.argsort(x[:, column])
        u = x[order, column]
        for place, y in enumerate(ys):
            other_order = np.argsort(y[:, column])
            v = y[other_order, column]
            value, of_u, of_v = _squared_cost(u, v), _potential(u, v), _potential(v, u)
            for draw in range(resamples):
                p, q = counts[0][draw][order], counts[place + 1][draw][other_order]
                moved = _squared_cost(np.repeat(u, p), np.repeat(v, q)) - value
                found[place, draw] += moved - of_u @ p / len(u) - of_v @ q / len(v)
    return found / lines.shape[1]


def _counts(number: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each sample is drawn in as many draws with replacement, `[resamples, number]`."""
    return np.stack(
        [np.bincount(rng.integers(number, size=number), minlength=number) for _ in range(resamples)]
    )
