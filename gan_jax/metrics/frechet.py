"""The Frechet distance between Gaussians fitted to features (Heusel et al., 2017).

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^1/2)

It is a FID only of the standard Inception features; of any other extractor, call it by that extractor's name.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.estimate import Interval

_ROWS = 4096


class Moments(NamedTuple):
    """Mean and scatter of features seen so far, float64 on the host; a `Moments` of a part is mergeable.

    Attributes:
      number: how many samples.
      mean: `[D]`.
      scatter: `sum (x - mean)(x - mean)^T`, `[D, D]`.
    """

    number: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, `scatter / (number - 1)`.

        Raises:
          ValueError: for fewer than two samples.
        """
        if self.number < 2:
            raise ValueError(f"A covariance needs at least 2 samples, these moments have {self.number}.")
        return self.scatter / (self.number - 1)


def moments(features: ArrayLike) -> Moments:
    """The moments of features `[N, D]`.

    Raises:
      ValueError: where features are not finite, or there are none.

    >>> m = merge_moments(moments([[1.0, 0.0], [3.0, 0.0]]), moments([[8.0, 3.0]]))
    >>> m.number, m.mean
    (3, array([4., 1.]))
    """
    return _moments(as_samples(features, "features", dtype=None))


def _moments(samples: np.ndarray) -> Moments:
    total = Moments(0, np.zeros(samples.shape[1]), np.zeros((samples.shape[1],) * 2))
    for start in range(0, len(samples), _ROWS):
        block = samples[start : start + _ROWS].astype(np.float64)
        mean = block.mean(axis=0)
        block -= mean  # a scatter about the block's own mean loses nothing to a large common offset
        total = merge_moments(total, Moments(len(block), mean, block.T @ block))
    return total


def merge_moments(first: Moments, *others: Moments) -> Moments:
    """The moments of all samples together (Chan, Golub and LeVeque, 1983).

    Raises:
      ValueError: where dimensions differ.
    """
    number, mean, scatter = first
    for other in others:
        if other.mean.shape != mean.shape:
            raise ValueError(
                f"Moments of {mean.shape[0]} and of {other.mean.shape[0]} dimensions do not merge."
            )
        together = number + other.number
        if not together:
            continue
        shift = other.mean - mean
        # Not in place: the parts stay what they were.
        scatter = scatter + other.scatter
        if number and other.number:
            scatter += np.outer(shift, shift * (number * other.number / together))
        mean, number = mean + shift * (other.number / together), together
    return Moments(number, mean, scatter)


def merge_across_processes(part: Moments) -> Moments:
    """The moments of all hosts' samples; every process calls it, and every process gets the same bits."""
    if jax.process_count() == 1:
        return part
    from jax.experimental import multihost_utils

    packed = np.concatenate([[float(part.number)], part.mean, part.scatter.ravel()])
    # As 32-bit words: without x64, JAX would round float64 on its way.
    words = np.asarray(multihost_utils.process_allgather(packed.view(np.uint32)))
    dimension = len(part.mean)
    parts = [
        Moments(int(row[0]), row[1 : 1 + dimension], row[1 + dimension :].reshape(dimension, dimension))
        for row in np.ascontiguousarray(words).view(np.float64)
    ]
    return merge_moments(*parts)


def frechet_distance(real: ArrayLike | Moments, fake: ArrayLike | Moments) -> float:
    """The squared Frechet distance of two sets of features.

    It is biased upwards by about a constant over N; compare only at one N, or use `frechet_extrapolated`.

    Args:
      real: features `[N, D]`, or their `Moments`.
      fake: features `[M, D]`, or their `Moments`.

    Returns:
      A float, 0 for equal moments.

    Raises:
      ValueError: where features are not finite, dimensions differ, or a side has fewer than two samples.

    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(100, 3))
    >>> round(frechet_distance(features, features + [3.0, 4.0, 0.0]), 6)
    25.0
    """
    first, second = _both_moments(real, fake)
    return _distance(first, second)


def _distance(first: Moments, second: Moments) -> float:
    shift = first.mean - second.mean
    p, q = first.covariance, second.covariance
    traces = np.trace(p) + np.trace(q)
    return float(max(shift @ shift + traces - 2 * trace_sqrt_product(p, q), 0.0))


def trace_sqrt_product(first: np.ndarray, second: np.ndarray) -> float:
    """`tr (C_1 C_2)^1/2` of covariances, from the symmetric `R^T C_2 R` with `R R^T = C_1`: the same eigenvalues.

    Symmetric eigenvalues are real, and a singular covariance is no special case. Eigenvalues within rounding of
    zero count as zero: the root of 1e-16 is 1e-8, and two thousand of those would show.
    """
    root = _root(first)
    product = root.T @ second @ root
    return float(np.sqrt(_cleaned(np.linalg.eigvalsh((product + product.T) / 2))).sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with `R R^T` the covariance: Cholesky's, or of a singular one the dearer eigenvectors'."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(_cleaned(values))


def _cleaned(eigenvalues: np.ndarray) -> np.ndarray:
    rounding = len(eigenvalues) * np.finfo(np.float64).eps * max(eigenvalues.max(), 0.0)
    return np.where(eigenvalues > rounding, eigenvalues, 0.0)


def frechet_interval(
    real: ArrayLike, fake: ArrayLike, *, resamples: int = 100, level: float = 0.95, seed: int = 0
) -> Interval:
    """The Frechet distance with a bootstrap confidence interval.

    Both sets are resampled. A resample repeats samples, so its distance is biased once more by about what the
    original's is; the basic interval `2 d - quantiles` takes that bias off, and aims at the distance of the
    distributions: with few samples the value itself lies above its interval.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      resamples: bootstrap draws; each costs one `frechet_distance`.
      level: of confidence.
      seed: of the draws.

    Raises:
      ValueError: as `frechet_distance`, and for fewer than 10 resamples or a level outside (0, 1).
    """
    first, second = as_pair(real, fake, at_least=2, dtype=None)
    if resamples < 10 or not 0 < level < 1:
        raise ValueError(f"10 resamples or more and a level in (0, 1), got {resamples} and {level}.")
    rng = np.random.default_rng(seed)
    draws = [_distance(_resampled(first, rng), _resampled(second, rng)) for _ in range(resamples)]
    value = _distance(_moments(first), _moments(second))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, max(2 * value - float(high), 0.0), max(2 * value - float(low), 0.0), level)


def _resampled(samples: np.ndarray, rng: np.random.Generator) -> Moments:
    """The moments of as many draws with replacement, from each sample's number of draws."""
    counts = np.bincount(rng.integers(len(samples), size=len(samples)), minlength=len(samples))
    chosen = np.flatnonzero(counts)
    total = Moments(0, np.zeros(samples.shape[1]), np.zeros((samples.shape[1],) * 2))
    for start in range(0, len(chosen), _ROWS):
        rows = chosen[start : start + _ROWS]
        weight = counts[rows].astype(np.float64)
        block = samples[rows].astype(np.float64)
        mean = weight @ block / weight.sum()
        block -= mean
        block *= np.sqrt(weight)[:, None]
        total = merge_moments(total, Moments(int(weight.sum()), mean, block.T @ block))
    return total


class Extrapolation(NamedTuple):
    """A straight line through distances at several sample sizes, against 1 / N.

    Attributes:
      value: the line's height at 1 / N = 0: the distance without its first-order bias. May come out below 0.
      standard_error: of that height, from the points' scatter about the line.
      slope: distance lost for each 1 / N.
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
    """The Frechet distance as the number of samples grows without end (Chong and Forsyth, 2020).

    Distances of random subsets lie on a line in 1 / N; its intercept is unbiased to first order. Both sides shrink
    together where both are features; `Moments` of the real side stay as they are, and keep their own bias.

    Args:
      real: features `[N, D]`, or fixed `Moments`.
      fake: features `[M, D]`.
      points: subsets, of sizes evenly spaced in 1 / N.
      smallest: the smallest subset of `fake`; a fifth of it (and at least D + 2) if not given.
      seed: of the subsets.

    Raises:
      ValueError: as `frechet_distance`, and where the subsets do not fit.
    """
    rng = np.random.default_rng(seed)
    if isinstance(real, Moments):
        second = as_samples(fake, "fake", at_least=4, dtype=None)
        fixed, _ = _both_moments(real, second[:2])
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
    distances = []
    for size in sizes:
        fakes = _moments(_subset(second, size, rng))
        reals = fixed if first is None else _moments(_subset(first, round(len(first) * size / number), rng))
        distances.append(_distance(reals, fakes))
    return _line(sizes, np.array(distances))


def _subset(samples: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return samples if size >= len(samples) else samples[rng.permutation(len(samples))[: max(size, 2)]]


def _line(sizes: np.ndarray, distances: np.ndarray) -> Extrapolation:
    """Least squares of distance against 1 / N."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    (height, slope), *_ = np.linalg.lstsq(design, distances, rcond=None)
    residual = distances - design @ [height, slope]
    noise = residual @ residual / max(len(sizes) - 2, 1)
    error = np.sqrt(noise * np.linalg.inv(design.T @ design)[0, 0])
    return Extrapolation(float(height), float(error), float(slope), sizes, distances)


def _both_moments(real: ArrayLike | Moments, fake: ArrayLike | Moments) -> tuple[Moments, Moments]:
    if isinstance(real, Moments) or isinstance(fake, Moments):
        first, second = (
            side if isinstance(side, Moments) else _moments(as_samples(side, name, at_least=2, dtype=None))
            for side, name in ((real, "real"), (fake, "fake"))
        )
        if first.mean.shape != second.mean.shape:
            raise ValueError(f"real has {first.mean.shape[0]} dimensions and fake {second.mean.shape[0]}.")
        return first, second
    samples = as_pair(real, fake, at_least=2, dtype=None)
    return _moments(samples[0]), _moments(samples[1])
