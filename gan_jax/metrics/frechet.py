"""The Frechet distance between Gaussians fitted to features (Heusel et al., 2017).

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^1/2)

It is a FID only of the standard Inception features; of any other extractor, call it by that extractor's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.estimate import Bootstrap, Interval
from gan_jax.metrics.gaussians import (
    Gaussian,
    Moments,
    Weighted,
    check_ddof,
    check_gaussian,
    moments,
    row_blocks,
    weighted_moments,
)

_WIDE = 256
_CHEAP_DRAWS = 2000
_NEGATIVE = 1e-3
"""The share of the largest eigenvalue that is more than the rounding of covariances in float32."""
_REGULAR = 1e-5
"""In a regular covariance earlier coordinates leave more than this fraction of a coordinate's deviation."""


def frechet_distance(
    real: ArrayLike | Moments | Gaussian, fake: ArrayLike | Moments | Gaussian, *, ddof: int = 1
) -> float:
    """The squared Frechet distance of two sets of features.

    The estimate is biased upwards by about a constant over N; compare only at equal N, or use
    `frechet_extrapolated`. If a set has fewer samples than dimensions no covariance is formed, and the cost depends
    on the size of the smaller set. The rounding error is about 1e-15 of the largest variance. With n the smaller of
    N, M and D, time is O((N + M) D n + n^3); memory is O(n D + n^2) beside the features.

    Args:
      real: features `[N, D]`, their `Moments`, or the `Gaussian` of a statistics file.
      fake: the same of the fakes, `[M, D]`.
      ddof: 1 divides covariances by N - 1, as pytorch-fid, clean-fid, torch-fidelity and ADM do; 0 by N, as
        StyleGAN2-ADA does. A `Gaussian` keeps its covariance.

    Returns:
      A float, 0 for equal moments.

    Raises:
      ValueError: if features are not finite, dimensions differ, a side has fewer than two samples, or a `Gaussian`
        has no covariance of features.

    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(100, 3))
    >>> round(frechet_distance(features, features + [3.0, 4.0, 0.0]), 6)
    25.0
    """
    if isinstance(real, Moments | Gaussian) or isinstance(fake, Moments | Gaussian):
        return gaussian_distance(*both_gaussians(real, fake, ddof))
    return _distance_of_samples(*as_pair(real, fake, at_least=2, dtype=None), ddof=check_ddof(ddof))


def both_gaussians(
    real: ArrayLike | Moments | Gaussian, fake: ArrayLike | Moments | Gaussian, ddof: int
) -> tuple[Gaussian, Gaussian]:
    """The Gaussians of both sides.

    Raises:
      ValueError: as `frechet_distance`.
    """
    first, second = (_gaussian(side, name, ddof) for side, name in ((real, "real"), (fake, "fake")))
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"real has {first.mean.shape[0]} dimensions and fake {second.mean.shape[0]}.")
    return first, second


def _gaussian(side: ArrayLike | Moments | Gaussian, name: str, ddof: int) -> Gaussian:
    if not isinstance(side, Gaussian | Moments):
        return weighted_moments(Weighted(as_samples(side, name, at_least=2, dtype=None))).gaussian(ddof)
    return check_gaussian(side if isinstance(side, Gaussian) else side.gaussian(ddof), name)


def gaussian_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared Frechet distance of two Gaussians; time is O(D^3), memory O(D^2)."""
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
    if values[0] < -_NEGATIVE * values[-1]:
        raise ValueError(
            f"A covariance whose correlations have eigenvalues from {values[0]:.3g} to {values[-1]:.3g}; those "
            "of features have no negative eigenvalue: the statistics are damaged, or none."
        )
    rounding = len(values) * np.finfo(np.float64).eps * values[-1]
    return scale[:, None] * vectors * np.sqrt(np.where(values > rounding, values, 0.0))


def _distance_of_samples(
    first: np.ndarray,
    second: np.ndarray,
    counts: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    ddof: int = 1,
) -> float:
    """The distance of weighted samples, computed in as many dimensions as the smaller set has samples.

    With centred data X, `C = X^T X / (N - ddof)`, so `tr (C_1 C_2)^1/2` is the sum of the singular values of
    `X_1 X_2^T / ((N_1 - ddof) (N_2 - ddof))^1/2`, `[N_1, N_2]`, whose larger side is reduced by QR in blocks.
    """
    drawn = [_drawn(side, count) for side, count in zip((first, second), counts, strict=True)]
    small, large = sorted(drawn, key=lambda side: len(side.samples))
    if len(small.samples) >= small.samples.shape[1]:
        return gaussian_distance(*(weighted_moments(side).gaussian(ddof) for side in (small, large)))
    centers = small.mean, large.mean
    rows = np.empty(small.samples.shape)
    for part, block in zip(row_blocks(rows), small.centred(centers[0]), strict=True):
        np.divide(block, np.sqrt(small.number - ddof), out=rows[part])
    traces = np.einsum("nd,nd->", rows, rows)
    reduced: np.ndarray = np.zeros((0, len(rows)))
    for block in large.centred(centers[1]):
        block /= np.sqrt(large.number - ddof)
        traces += np.einsum("nd,nd->", block, block)
        reduced = np.asarray(np.linalg.qr(np.concatenate([reduced, block @ rows.T]), mode="r"))
    shift = centers[0] - centers[1]
    return float(max(shift @ shift + traces - 2 * _nuclear_norm(reduced), 0.0))


def _drawn(samples: np.ndarray, counts: np.ndarray | None) -> Weighted:
    """The samples with a positive count, weighted by it."""
    if counts is None:
        return Weighted(samples)
    chosen = np.flatnonzero(counts)
    return Weighted(samples[chosen], counts[chosen].astype(np.float64))


def frechet_interval(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    resamples: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    method: str = "auto",
    ddof: int = 1,
) -> Interval:
    """The Frechet distance with a bootstrap confidence interval.

    Both sets are resampled. A resample repeats samples, so its distance has about twice the bias of the original's.
    The interval corrects that bias, since it estimates the distance of the distributions: with few samples the
    value itself lies above its interval. The interval is the value minus the bootstrap's bias, plus or minus
    Student's t times the bootstrap's standard deviation. (The resamples' quantiles fail if the distance is small,
    since it is then a square, whose skewness they reverse.)

    A 95 % interval of normal samples covered the true value in .91 to .96 of 400 repetitions with 80 samples of 1
    or 2 dimensions, in .93 to .97 with 400 samples, and in .95 to .99 with 4 or 16 dimensions; there always if the
    distributions are equal, as it is truncated at 0.

    The bootstrap finds the bias that is proportional to 1 / N. With few samples for their dimensions a part of
    it is left, and the more dimensions there are the narrower is the interval beside it. With normal features
    of variances 1 / k in 100 dimensions, 125 samples covered .67, 250 samples .94, 500 samples .96 (200
    repetitions); in 256 dimensions 520 samples covered .76, 1,300 samples .93; in 1,024 dimensions the middle
    was 42 % too large with 1,300 samples, 30 % with 2,100 and 8 % with 5,000, and the interval did not reach
    the truth (one repetition each). Of equal distributions with equal variances in 64 dimensions it reached 0
    in none of 20 repetitions with 64 samples, in one with 128 and in 17 with 256. Where the value lies above
    its interval by more than its width, take more samples.

    In thousands of dimensions a resample costs as much as the distance. There (`linear`) the first-order part of
    the distance, a mean of one number per sample, is resampled 2,000 times, which is cheap, and the remainder,
    including the bias, is estimated from a few full resamples (the linear part is a control variate, Efron, 1990).
    Time is that of `frechet_distance`, O((N + M) D n + n^3), for each full resample, memory that of one.

    Where the bias is large the value lies above its interval: report both, and compare sets of unequal sizes by
    their intervals.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      resamples: full bootstrap draws, each as expensive as `frechet_distance`; by default 100, or 10 with `linear`.
      level: the confidence level, in (0, 1).
      seed: the seed of the draws.
      method: `full`, `linear`, or `auto`: `linear` from 256 dimensions on, where both covariances are regular and
        there are twice as many samples as dimensions.
      ddof: as in `frechet_distance`.

    Raises:
      ValueError: as for `frechet_distance`; for fewer than 10 resamples, a level outside (0, 1), an unknown method,
        or `linear` with a singular covariance.

    References:
      Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2, on the normal interval;
      Efron, More Efficient Bootstrap Computations, 1990; Rippl, Munk and Sturm, Limit laws of the empirical
      Wasserstein distance: Gaussian distributions, 2016, on the derivative (arXiv:1507.04090).
    """
    if not 0 < level < 1:
        raise ValueError(f"A confidence level must lie in (0, 1), got {level}.")
    drawn = frechet_bootstrap(real, [fake], resamples=resamples, seed=seed, method=method, ddof=ddof)
    value, low, high = drawn.interval(0, level)
    return Interval(value, max(low, 0.0), max(high, 0.0), level)


def frechet_bootstrap(
    real: ArrayLike,
    fakes: Sequence[ArrayLike],
    *,
    resamples: int | None = None,
    seed: int = 0,
    method: str = "auto",
    ddof: int = 1,
) -> Bootstrap:
    """The bootstrap of `frechet_interval` for several sets of fakes with the same resamples of the real samples.

    Args:
      real: features `[N, D]`.
      fakes: features `[M, D]` of each set.
      resamples, seed, method, ddof: as in `frechet_interval`.

    Raises:
      ValueError: as `frechet_interval`.
    """
    sides = [as_pair(real, fake, at_least=2, dtype=None) for fake in fakes]
    first, others = sides[0][0], [other for _, other in sides]
    if method not in ("auto", "full", "linear"):
        raise ValueError(f"The method is 'auto', 'full' or 'linear', got {method!r}.")
    if resamples is not None and resamples < 10:
        raise ValueError(f"A bootstrap needs 10 resamples or more, got {resamples}.")
    check_ddof(ddof)
    smallest, dimension = min(map(len, (first, *others))), first.shape[1]
    wide = dimension >= _WIDE and smallest >= 2 * dimension
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    if (method == "linear" or (method == "auto" and wide)) and smallest > dimension:
        gaussian = moments(first).gaussian(ddof)
        found = (_linear_parts(first, other, gaussian, moments(other).gaussian(ddof)) for other in others)
        parts = [part for part in found if part is not None]
    if method == "linear" and len(parts) < len(others):
        raise ValueError("A covariance is singular, so the distance has no linear part: use method='full'.")
    values = np.array([_distance_of_samples(first, other, ddof=ddof) for other in others])
    rng = np.random.default_rng(seed)
    if len(parts) < len(others):
        draws = _full_draws(first, others, resamples or 100, rng, ddof)
    else:
        draws = _linear_draws(first, others, parts, resamples or 10, rng, ddof)
    return Bootstrap(values, draws, smallest - 1)


def gaussian_bootstrap(
    real: Gaussian, fakes: Sequence[ArrayLike], *, resamples: int = 10, seed: int = 0, ddof: int = 1
) -> Bootstrap:
    """The bootstrap of the distances of sets of fakes from a fixed Gaussian, as a statistics file holds it.

    Only the fakes are resampled, each set by draws that are independent of the others'.

    Args:
      real: the Gaussian.
      fakes: features `[M, D]` of each set.
      resamples, seed, ddof: as in `frechet_interval`.

    Raises:
      ValueError: as `frechet_distance`.
    """
    others = [as_samples(fake, "fake", at_least=2, dtype=None) for fake in fakes]
    values = np.array([frechet_distance(real, other, ddof=ddof) for other in others])
    rng = np.random.default_rng(seed)
    root = _root(real.covariance)
    draws = np.empty((len(others), resamples))
    for place, other in enumerate(others):
        for draw in range(resamples):
            draws[place, draw] = _distance_from(real, root, _drawn(other, _counts(other, rng)), ddof)
    return Bootstrap(values, draws, min(map(len, others)) - 1)


def _distance_from(real: Gaussian, root: np.ndarray, drawn: Weighted, ddof: int) -> float:
    """The distance of weighted samples from a Gaussian, of whose covariance the root is known.

    The samples' covariance is `X^T X` of centred and scaled rows `[M, D]`, so with fewer samples than dimensions
    `tr (C_1 C_2)^1/2` is the sum of the singular values of `X R_1`, in time O(D^2 M).
    """
    mean = drawn.mean
    if len(drawn.samples) < len(mean):
        rows = np.concatenate([np.array(block) for block in drawn.centred(mean)])
        rows /= np.sqrt(drawn.number - ddof)
        trace, common = np.einsum("nd,nd->", rows, rows), _nuclear_norm(rows @ root)
    else:
        covariance = weighted_moments(drawn).gaussian(ddof).covariance
        trace, common = np.trace(covariance), _nuclear_norm(root.T @ _root(covariance))
    shift = real.mean - mean
    return float(max(shift @ shift + np.trace(real.covariance) + trace - 2 * common, 0.0))


def _full_draws(
    first: np.ndarray, others: Sequence[np.ndarray], number: int, rng: np.random.Generator, ddof: int
) -> np.ndarray:
    draws = np.empty((len(others), number))
    for draw in range(number):
        counts = _counts(first, rng)
        for place, other in enumerate(others):
            draws[place, draw] = _distance_of_samples(first, other, (counts, _counts(other, rng)), ddof)
    return draws


def _linear_draws(
    first: np.ndarray,
    others: Sequence[np.ndarray],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    number: int,
    rng: np.random.Generator,
    ddof: int,
) -> np.ndarray:
    """All sums of a draw of the linear part and a remainder of one of `number` full draws, `[F, draws]`."""
    remainders = np.empty((len(others), number))
    for draw in range(number):
        real_counts = _counts(first, rng)
        for place, (other, part) in enumerate(zip(others, parts, strict=True)):
            counts = real_counts, _counts(other, rng)
            linear = sum(float(count @ side) / len(side) for count, side in zip(counts, part, strict=True))
            remainders[place, draw] = _distance_of_samples(first, other, counts, ddof) - linear
    cheap = np.empty((len(others), _CHEAP_DRAWS))
    for draw in range(_CHEAP_DRAWS):
        rows = rng.integers(len(first), size=len(first))
        cheap[:, draw] = [part[rows].mean() for part, _ in parts]
    for place, (_, of_fake) in enumerate(parts):
        cheap[place] += [
            of_fake[rng.integers(len(of_fake), size=len(of_fake))].mean() for _ in range(_CHEAP_DRAWS)
        ]
    return (cheap[:, :, None] + remainders[:, None, :]).reshape(len(others), -1)


def _linear_parts(
    first: np.ndarray, second: np.ndarray, p: Gaussian, q: Gaussian
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
    for part in row_blocks(samples):
        block = samples[part] - mean
        moved = block @ factor
        influence[part] = (
            2 * block @ shift + np.einsum("nd,nd->n", block, block) - np.einsum("nd,nd->n", moved, moved)
        )
    return influence - influence.mean()


def _counts(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each sample is drawn in as many draws with replacement."""
    return np.bincount(rng.integers(len(samples), size=len(samples)), minlength=len(samples))
