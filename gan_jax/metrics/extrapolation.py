"""The Frechet distance extrapolated to infinitely many samples (Chong and Forsyth, 2020)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.frechet import both_gaussians, frechet_distance
from gan_jax.metrics.gaussians import Moments


class Extrapolation(NamedTuple):
    """A straight line through distances at several sample sizes, against 1 / N.

    Attributes:
      value: the line's height at 1 / N = 0: the distance without its first-order bias; it can be negative.
      standard_error: the standard error of that height, from the points' scatter about the line.
      slope: the slope of the line in 1 / N.
      sizes: the (fake) sample sizes.
      distances: the distances there.
    """

    value: float
    standard_error: float
    slope: float
    sizes: np.ndarray
    distances: np.ndarray

    def __float__(self) -> float:
        return self.value


def frechet_extrapolated(
    real: ArrayLike | Moments,
    fake: ArrayLike,
    *,
    points: int = 15,
    smallest: int | None = None,
    seed: int = 0,
) -> Extrapolation:
    """The Frechet distance extrapolated to infinitely many samples (Chong and Forsyth, 2020).

    Distances of random subsets lie on a line in 1 / N, whose intercept is unbiased to first order. If both sides
    are features, both are subsampled in proportion; `Moments` of the real side are fixed, and keep their bias. Time
    is that of `frechet_distance`, O((N + M) D n + n^3), for each point, memory that of one.

    Args:
      real: features `[N, D]`, or fixed `Moments`.
      fake: features `[M, D]`.
      points: the number of subsets, whose sizes are evenly spaced in 1 / N.
      smallest: the smallest subset of `fake`; by default a fifth of it (and at least D + 2).
      seed: the seed of the subsets.

    Raises:
      ValueError: as for `frechet_distance`, and if the subsets do not fit.
    """
    rng = np.random.default_rng(seed)
    if isinstance(real, Moments):
        second = as_samples(fake, "fake", at_least=4, dtype=None)
        fixed, _ = both_gaussians(real, second[:2], ddof=1)
        first = None
    else:
        first, second = as_pair(real, fake, at_least=4, dtype=None)
    number, dimension = second.shape
    least = max(number // 5, min(dimension + 2, number // 2), 2) if smallest is None else smallest
    if not 2 <= least < number or points < 3:
        raise ValueError(
            f"Subsets of 2 to {number - 1} samples and 3 points or more, got {least} and {points}."
        )
    sizes = np.unique(np.round(1 / np.linspace(1 / least, 1 / number, points)).astype(int))
    if len(sizes) < 3:
        raise ValueError(
            f"A line with an error needs three sizes or more; of {least} to {number} samples {points} points are "
            f"{len(sizes)}: give a smaller smallest, or more points."
        )
    distances = []
    for size in sizes:
        fakes = _subset(second, size, rng)
        if first is None:
            distances.append(frechet_distance(fixed, fakes))
        else:
            reals = _subset(first, round(len(first) * size / number), rng)
            distances.append(frechet_distance(reals, fakes))
    return _line(sizes, np.array(distances))


def _subset(samples: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return samples if size >= len(samples) else samples[rng.permutation(len(samples))[: max(size, 2)]]


def _line(sizes: np.ndarray, distances: np.ndarray) -> Extrapolation:
    """The least-squares line of distances against 1 / N."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    (height, slope), *_ = np.linalg.lstsq(design, distances, rcond=None)
    residual = distances - design @ [height, slope]
    noise = residual @ residual / (len(sizes) - 2)
    error = np.sqrt(noise * np.linalg.inv(design.T @ design)[0, 0])
    return Extrapolation(float(height), float(error), float(slope), sizes, distances)
