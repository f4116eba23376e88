"""The Frechet distance between Gaussians fitted to features (Heusel et al., 2017).

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^1/2)

It is a FID only of the standard Inception features; of any other extractor, call it by that extractor's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.estimate import Interval

_ROWS = 4096
_WIDE = 256
_CHEAP_DRAWS = 2000
_REGULAR = 1e-5
"""In a regular covariance earlier coordinates leave more than this fraction of a coordinate's deviation."""


class Moments(NamedTuple):
    """The mean and scatter of a set of features, float64 on the host; see `merge_moments`.

    Attributes:
      number: the number of samples.
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
      ValueError: if features are not finite, or there are none.

    >>> m = merge_moments(moments([[1.0, 0.0], [3.0, 0.0]]), moments([[8.0, 3.0]]))
    >>> m.number, m.mean
    (3, array([4., 1.]))
    """
    return _moments(as_samples(features, "features", dtype=None))


class _Weighted(NamedTuple):
    """Samples `[N, D]`, each repeated as often as its weight; once without weights."""

    samples: np.ndarray
    weights: np.ndarray | None = None

    @property
    def number(self) -> int:
        return len(self.samples) if self.weights is None else int(self.weights.sum())

    @property
    def mean(self) -> np.ndarray:
        """The mean in float64, from differences to the first sample, so that a common offset costs no digits."""
        weights = np.ones(len(self.samples)) if self.weights is None else self.weights
        total = np.zeros(self.samples.shape[1])
        for start in range(0, len(self.samples), _ROWS):
            part = slice(start, start + _ROWS)
            total += weights[part] @ np.subtract(self.samples[part], self.samples[0], dtype=np.float64)
        return self.samples[0] + total / self.number

    def centred(self, mean: np.ndarray) -> Iterator[np.ndarray]:
        """Yields blocks of rows `w^1/2 (x - mean)`, float64."""
        for start in range(0, len(self.samples), _ROWS):
            part = slice(start, start + _ROWS)
            block = np.subtract(self.samples[part], mean, dtype=np.float64)
            if self.weights is not None:
                block *= np.sqrt(self.weights[part])[:, None]
            yield block


def _moments(samples: np.ndarray) -> Moments:
    return _weighted_moments(_Weighted(samples))


def _weighted_moments(weighted: _Weighted) -> Moments:
    mean = weighted.mean
    scatter = np.zeros((len(mean), len(mean)))
    for block in weighted.centred(mean):
        scatter += block.T @ block
    return Moments(weighted.number, mean, scatter)


def merge_moments(first: Moments, *others: Moments) -> Moments:
    """The moments of the union of several sets of samples (Chan, Golub and LeVeque, 1983).

    Raises:
      ValueError: if dimensions differ.
    """
    number, mean, scatter = first
    for other in others:
        if other.mean.shape != mean.shape:
            raise ValueError(
                f"Moments of {mean.shape[0]} and of {other.mean.shape[0]} dimensions cannot be merged."
            )
        total = number + other.number
        if not total:
            continue
        shift = other.mean - mean
        # Not in place, since it would change an argument.
        scatter = scatter + other.scatter
        if number and other.number:
            scatter += np.outer(shift, shift * (number * other.number / total))
        mean, number = mean + shift * (other.number / total), total
    return Moments(number, mean, scatter)


def merge_across_processes(part: Moments) -> Moments:
    """The moments of all hosts' samples; every process must call it, and all get bitwise the same result."""
    if jax.process_count() == 1:
        return part
    from jax.experimental import multihost_utils

    packed = np.concatenate([[float(part.number)], part.mean, part.scatter.ravel()])
    # Sent as uint32: without x64 JAX would round float64.
    gathered = np.asarray(multihost_utils.process_allgather(packed.view(np.uint32)))
    dimension = len(part.mean)
    parts = [
        Moments(int(row[0]), row[1 : 1 + dimension], row[1 + dimension :].reshape(dimension, dimension))
        for row in np.ascontiguousarray(gathered).view(np.float64)
    ]
    return merge_moments(*parts)


def frechet_distance(real: ArrayLike | Moments, fake: ArrayLike | Moments) -> float:
    """The squared Frechet distance of two sets of features.

    The estimate is biased upwards by about a constant over N; compare only at equal N, or use
    `frechet_extrapolated`. If a set has fewer samples than dimensions no covariance is formed, and the cost depends
    on the size of the smaller set. The rounding error is about 1e-15 of the largest variance.

    Args:
      real: features `[N, D]`, or their `Moments`.
      fake: features `[M, D]`, or their `Moments`.

    Returns:
      A float, 0 for equal moments.

    Raises:
      ValueError: if features are not finite, dimensions differ, or a side has fewer than two samples.

    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(100, 3))
    >>> round(frechet_distance(features, features + [3.0, 4.0, 0.0]), 6)
    25.0
    """
    if isinstance(real, Moments) or isinstance(fake, Moments):
        return _distance(*_both_moments(real, fake))
    return _distance_of_samples(*as_pair(real, fake, at_least=2, dtype=None))


def _distance(first: Moments, second: Moments) -> float:
    shift = first.mean - second.mean
    p, q = first.covariance, second.covariance
    traces = np.trace(p) + np.trace(q)
    return float(max(shift @ shift + traces - 2 * trace_sqrt_product(p, q), 0.0))


def trace_sqrt_product(first: np.ndarray, second: np.ndarray) -> float:
    """`tr (C_1 C_2)^1/2` of covariances: the sum of the singular values of `R_1^T R_2`, with `R R^T = C`.

    The eigenvalues of `R_1^T C_2 R_1` are their squares, in which rounding loses values below 1e-8 of the largest.
    """
    return _nuclear_norm(_root(first).T @ _root(second))


def _nuclear_norm(matrix: np.ndarray) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    """A root R with `R R^T` the covariance: Cholesky's, or from eigenvectors if the covariance is singular.

    Both use the correlations, so that a coordinate of small scale is not mistaken for rounding. Eigenvalues within
    rounding of zero count as zero: the root of 1e-16 is 1e-8, and two thousand of those would matter.
    """
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = covariance / scale / scale[:, None]
    try:
        root = np.linalg.cholesky(correlation)
        if np.diag(root).min() > _REGULAR:
            return scale[:, None] * root
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(correlation)
    rounding = len(values) * np.finfo(np.float64).eps * values[-1]
    return scale[:, None] * vectors * np.sqrt(np.where(values > rounding, values, 0.0))


def _distance_of_samples(
    first: np.ndarray,
    second: np.ndarray,
    counts: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> float:
    """The distance of weighted samples, computed in as many dimensions as the smaller set has samples.

    With centred data X, `C = X^T X / (N - 1)`, so `tr (C_1 C_2)^1/2` is the sum of the singular values of
    `X_1 X_2^T / ((N_1 - 1) (N_2 - 1))^1/2`, `[N_1, N_2]`, of which the larger side is reduced by QR in blocks.
    """
    drawn = [_drawn(side, count) for side, count in zip((first, second), counts, strict=True)]
    small, large = sorted(drawn, key=lambda side: len(side.samples))
    if len(small.samples) >= small.samples.shape[1]:
        return _distance(_weighted_moments(small), _weighted_moments(large))
    centers = small.mean, large.mean
    rows = np.concatenate(list(small.centred(centers[0]))) / np.sqrt(small.number - 1)
    traces = np.einsum("nd,nd->", rows, rows)
    reduced: np.ndarray = np.zeros((0, len(rows)))
    for block in large.centred(centers[1]):
        block /= np.sqrt(large.number - 1)
        traces += np.einsum("nd,nd->", block, block)
        reduced = np.asarray(np.linalg.qr(np.concatenate([reduced, block @ rows.T]), mode="r"))
    shift = centers[0] - centers[1]
    return float(max(shift @ shift + traces - 2 * _nuclear_norm(reduced), 0.0))


def _drawn(samples: np.ndarray, counts: np.ndarray | None) -> _Weighted:
    """The samples with a positive count, weighted by it."""
    if counts is None:
        return _Weighted(samples)
    chosen = np.flatnonzero(counts)
    return _Weighted(samples[chosen], counts[chosen].astype(np.float64))


def frechet_interval(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    resamples: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    method: str = "auto",
) -> Interval:
    """The Frechet distance with a bootstrap confidence interval.

    Both sets are resampled. A resample repeats samples, so its distance has about twice the bias of the original's.
    The interval corrects that bias, since it estimates the distance of the distributions: with few samples the
    value itself lies above its interval. The interval is the value minus the bootstrap's bias, plus or minus
    Student's t times the bootstrap's standard deviation. (The resamples' quantiles fail if the distance is small,
    since it is then a square, whose skewness they reverse.)

    A 95 % interval of normal samples covered the true value in .91 to .96 of 400 repetitions with 80 samples of 1
    or 2 dimensions, in .93 to .97 with 400 samples, and in .95 to .99 with 4 or 16 dimensions; always if the
    distributions are equal, as it is truncated at 0.

    In thousands of dimensions a resample costs as much as the distance. There (`linear`) the first-order part of
    the distance, a mean of one number per sample, is resampled 2,000 times, which is cheap, and the remainder,
    including the bias, is estimated from a few full resamples (the linear part is a control variate, Efron, 1990).

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      resamples: full bootstrap draws, each as expensive as `frechet_distance`; by default 100, or 10 with `linear`.
      level: the confidence level, in (0, 1).
      seed: the seed of the draws.
      method: `full`, `linear`, or `auto`: `linear` from 256 dimensions on, where both covariances are regular and
        there are twice as many samples as dimensions.

    Raises:
      ValueError: as for `frechet_distance`; for fewer than 10 resamples, a level outside (0, 1), an unknown method,
        or `linear` with a singular covariance.

    References:
      Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2, on the normal interval;
      Efron, More Efficient Bootstrap Computations, 1990; Rippl, Munk and Sturm, Limit laws of the empirical
      Wasserstein distance: Gaussian distributions, 2016, on the derivative (arXiv:1507.04090).
    """
    first, second = as_pair(real, fake, at_least=2, dtype=None)
    if method not in ("auto", "full", "linear"):
        raise ValueError(f"The method is 'auto', 'full' or 'linear', got {method!r}.")
    if (resamples is not None and resamples < 10) or not 0 < level < 1:
        raise ValueError(f"10 resamples or more and a level in (0, 1), got {resamples} and {level}.")
    wide = first.shape[1] >= _WIDE and min(len(first), len(second)) >= 2 * first.shape[1]
    linear = (method == "linear" or (method == "auto" and wide)) and min(
        len(first), len(second)
    ) > first.shape[1]
    parts = _linear_parts(first, second, _moments(first), _moments(second)) if linear else None
    if method == "linear" and parts is None:
        raise ValueError("A covariance is singular, so the distance has no linear part: use method='full'.")
    value, rng = _distance_of_samples(first, second), np.random.default_rng(seed)
    if parts is None:
        draws = _full_draws(first, second, resamples or 100, rng)
    else:
        draws = _linear_draws(first, second, value, parts, resamples or 10, rng)
    center = 2 * value - draws.mean()
    reach = special.stdtrit(min(len(first), len(second)) - 1, (1 + level) / 2) * draws.std(ddof=1)
    return Interval(value, max(float(center - reach), 0.0), max(float(center + reach), 0.0), level)


def _full_draws(first: np.ndarray, second: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    return np.array(
        [
            _distance_of_samples(first, second, (_counts(first, rng), _counts(second, rng)))
            for _ in range(number)
        ]
    )


def _linear_draws(
    first: np.ndarray,
    second: np.ndarray,
    value: float,
    parts: tuple[np.ndarray, np.ndarray],
    number: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """All sums of a draw of the linear part and a remainder of one of `number` full draws."""
    remainders = np.empty(number)
    for draw in range(number):
        counts = _counts(first, rng), _counts(second, rng)
        linear = sum(float(count @ part) / len(part) for count, part in zip(counts, parts, strict=True))
        remainders[draw] = _distance_of_samples(first, second, counts) - linear
    cheap = sum(
        np.array([part[rng.integers(len(part), size=len(part))].mean() for _ in range(_CHEAP_DRAWS)])
        for part in parts
    )
    return np.add.outer(cheap, remainders).ravel()


def _linear_parts(
    first: np.ndarray, second: np.ndarray, p: Moments, q: Moments
) -> tuple[np.ndarray, np.ndarray] | None:
    """How much each sample moves the distance, to first order: `[N]`, `[M]`, means 0; None if one is singular.

    The derivative by C_1 is `I - T`, T the linear map that transports one Gaussian onto the other, `T C_1 T = C_2`.
    With `R_1 R_1^T = C_1` and the singular values `R_1^T R_2 = V S W^T`, `T = R_1^-T V S V^T R_1^-1`; its inverse
    is the other side's.
    """
    roots = _root(p.covariance), _root(q.covariance)
    vectors, values, _ = np.linalg.svd(roots[0].T @ roots[1])
    if values[-1] <= len(values) * np.finfo(np.float64).eps * values[0]:
        return None
    forth = np.linalg.solve(roots[0].T, vectors * np.sqrt(values))
    back = roots[0] @ (vectors / np.sqrt(values))
    shift = p.mean - q.mean
    return _influence(first, p.mean, shift, forth), _influence(second, q.mean, -shift, back)


def _influence(samples: np.ndarray, mean: np.ndarray, shift: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`2 shift . x + x^T (I - F F^T) x` of centred samples, its mean taken off: `[N]`."""
    influence = np.empty(len(samples))
    for start in range(0, len(samples), _ROWS):
        block = samples[start : start + _ROWS] - mean
        moved = block @ factor
        influence[start : start + _ROWS] = (
            2 * block @ shift + np.einsum("nd,nd->n", block, block) - np.einsum("nd,nd->n", moved, moved)
        )
    return influence - influence.mean()


def _counts(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each sample is drawn in as many draws with replacement."""
    return np.bincount(rng.integers(len(samples), size=len(samples)), minlength=len(samples))


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
    are features, both are subsampled in proportion; `Moments` of the real side are fixed, and keep their bias.

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
        fakes = _subset(second, size, rng)
        if first is None:
            distances.append(_distance(fixed, _moments(fakes)))
        else:
            reals = _subset(first, round(len(first) * size / number), rng)
            distances.append(_distance_of_samples(reals, fakes))
    return _line(sizes, np.array(distances))


def _subset(samples: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return samples if size >= len(samples) else samples[rng.permutation(len(samples))[: max(size, 2)]]


def _line(sizes: np.ndarray, distances: np.ndarray) -> Extrapolation:
    """The least-squares line of distances against 1 / N."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    (height, slope), *_ = np.linalg.lstsq(design, distances, rcond=None)
    residual = distances - design @ [height, slope]
    noise = residual @ residual / max(len(sizes) - 2, 1)
    error = np.sqrt(noise * np.linalg.inv(design.T @ design)[0, 0])
    return Extrapolation(float(height), float(error), float(slope), sizes, distances)


def _both_moments(real: ArrayLike | Moments, fake: ArrayLike | Moments) -> tuple[Moments, Moments]:
    first, second = (
        side if isinstance(side, Moments) else _moments(as_samples(side, name, at_least=2, dtype=None))
        for side, name in ((real, "real"), (fake, "fake"))
    )
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"real has {first.mean.shape[0]} dimensions and fake {second.mean.shape[0]}.")
    return first, second
