"""The kernel distance: unbiased squared MMD with a cubic kernel (Binkowski et al., 2018).

It is a KID only of the standard Inception features.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.functional.intervals import student_interval
from gan_jax.metrics._check import as_pair
from gan_jax.metrics.estimate import Estimate, Interval
from gan_jax.metrics.score import Score


def polynomial_kernel(
    x: np.ndarray, y: np.ndarray, *, degree: int = 3, scale: float | None = None, offset: float = 1.0
) -> np.ndarray:
    """`(scale x . y + offset)^degree`, `[N, M]`; the scale is 1 / D by default."""
    inner = x @ y.T
    inner *= 1 / x.shape[1] if scale is None else scale
    inner += offset
    return inner**degree if degree != 3 else inner * inner * inner


def unbiased_mmd(
    x: np.ndarray, y: np.ndarray, *, degree: int = 3, scale: float | None = None, offset: float = 1.0
) -> float:
    """The unbiased estimate of the squared MMD with the polynomial kernel; it can be below 0.

    What the kernel has of one sample alone cancels in the MMD, and where features are far from 0 for their
    deviations it is nearly all of the kernel. So it is left out before anything is summed: with the common mean `m`
    and `x = m + u`, the kernel is `(s + b_x + b_y + c)^degree` with `s = scale |m|^2 + offset`,
    `b_x = scale m . u_x` and `c = scale u_x . u_y`, and only its terms of both samples are kept.

    Args:
      x: features `[N, D]`.
      y: features `[M, D]`.
      degree, scale, offset: see `polynomial_kernel`.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    middle = (x.mean(0) + y.mean(0)) / 2
    u, v = x - middle, y - middle
    scale = 1 / x.shape[1] if scale is None else scale
    alone = scale * middle @ middle + offset

    def both(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return _terms_of_both(alone, scale * (p @ middle), scale * (q @ middle), scale * (p @ q.T), degree)

    n, m = len(x), len(y)
    uu, vv = both(u, u), both(v, v)
    within_x = (uu.sum() - np.trace(uu)) / (n * (n - 1))
    within_y = (vv.sum() - np.trace(vv)) / (m * (m - 1))
    return float(within_x + within_y - 2 * both(u, v).mean())


def _terms_of_both(
    alone: float, of_x: np.ndarray, of_y: np.ndarray, c: np.ndarray, degree: int
) -> np.ndarray:
    """`(s + x + y + c)^degree - (s + x)^degree - (s + y)^degree + s^degree`, `[N, M]`, with nothing that cancels.

    Args:
      alone: `s`.
      of_x: `[N]`.
      of_y: `[M]`.
      c: `[N, M]`.
      degree: a whole number from 1.
    """
    base = alone + of_x[:, None] + of_y
    total = np.zeros_like(c)
    # The binomial terms of (base + c)^degree with c in them, by Horner's scheme.
    for power in range(degree, 0, -1):
        total += comb(degree, power) * base ** (degree - power)
        total *= c
    # Those of base^degree with both x and y in them.
    for i in range(1, degree):
        of_rest = sum(
            comb(degree - i, j) * alone ** (degree - i - j) * of_y**j for j in range(1, degree - i + 1)
        )
        total += np.outer(comb(degree, i) * of_x**i, of_rest)
    return total


def kernel_distance(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    block_size: int = 1000,
    degree: int = 3,
    scale: float | None = None,
    offset: float = 1.0,
    seed: int = 0,
) -> Estimate:
    """The kernel distance by disjoint blocks, with the standard error of their mean.

    Both sets are shuffled and cut into equally many blocks of at most `block_size` samples. Each pair of blocks
    gives an unbiased estimate, and disjoint blocks are independent, so that the standard error is valid (that of
    random overlapping subsets, which some packages draw, depends on their number: see `kernel_subsets`). Time is
    O(N block_size D), memory O(block_size^2 + block_size D) beside the features.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      block_size: samples in a block; the squared MMD costs their square.
      degree, scale, offset: the polynomial kernel's parameters; the defaults are KID's.
      seed: the seed of the shuffle.

    Returns:
      The squared MMD (0 in expectation for equal distributions, so often negative), and its standard error, NaN for
      a single block. With few blocks use Student's t: see `kernel_interval`.

    Raises:
      ValueError: if features are not finite, dimensions differ, blocks would have fewer than two samples, or the
        degree is no whole number from 1.

    >>> features = np.random.default_rng(0).normal(size=(400, 8))
    >>> found = kernel_distance(features[:200], features[200:] + 1.0, block_size=50)
    >>> found.value > 10 * found.standard_error
    True
    """
    first, second = as_pair(real, fake, at_least=2, dtype=None)
    blocks = _blocks(first, second, block_size)
    values = block_estimates(first, second, blocks, degree=degree, scale=scale, offset=offset, seed=seed)
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Estimate(float(np.mean(values)), error)


def kernel_subsets(
    real: ArrayLike, fake: ArrayLike, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Score:
    """The kernel distance as it is usually published: the mean over random subsets that overlap.

    NVIDIA's code, clean-fid and torch-fidelity take 100 subsets of 1,000. The subsets are those of
    `numpy.random.RandomState(seed)`, a choice of the real and one of the fake samples in turn, so that
    torch-fidelity's number of the same seed is this one. The spread over subsets is no standard error, since they
    overlap: see `kernel_distance` for one. Time is O(subsets size^2 D), memory O(size^2 + size D) beside the
    features.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      subsets: the number of subsets.
      size: samples in a subset; all samples of a smaller set, if there are fewer.
      seed: the seed of the subsets.

    Returns:
      The mean and the standard deviation of the unbiased squared MMD over subsets.

    Raises:
      ValueError: if features are not finite, dimensions differ, or a subset would have fewer than two samples.

    >>> features = np.random.default_rng(0).normal(size=(400, 8))
    >>> found = kernel_subsets(features[:200], features[200:] + 1.0, subsets=10, size=50)
    >>> found.mean > 5 * found.std
    True
    """
    values = subset_estimates(real, fake, subsets=subsets, size=size, seed=seed)
    return Score(float(np.mean(values)), float(np.std(values)))


def subset_estimates(
    real: ArrayLike, fake: ArrayLike, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> np.ndarray:
    """The unbiased squared MMD of each of the subsets of `kernel_subsets`, one where all would be the same."""
    first, second = as_pair(real, fake, at_least=2, dtype=None)
    size = min(size, len(first), len(second))
    if subsets < 1 or size < 2:
        raise ValueError(f"One subset or more of two samples or more, got {subsets} of {size}.")
    rng = np.random.RandomState(seed)
    values = []
    all_alike = size == len(first) == len(second)
    for _ in range(1 if all_alike else subsets):
        x, y = (side[rng.choice(len(side), size, replace=False)] for side in (first, second))
        values.append(unbiased_mmd(x, y))
    return np.array(values)


def kernel_interval(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    block_size: int = 1000,
    degree: int = 3,
    scale: float | None = None,
    offset: float = 1.0,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The kernel distance with a confidence interval by Student's t of the blocks' estimates.

    With few blocks normal quantiles are too narrow: 1.96 standard errors of 5 or 10 estimates cover .88 or .92.
    Time is that of `kernel_distance`, O(N block_size D), and so is the memory.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      block_size, degree, scale, offset, seed: see `kernel_distance`.
      level: the confidence level, in (0, 1).

    Returns:
      The distance and its interval, whose lower bound can be negative.

    Raises:
      ValueError: as for `kernel_distance`, for a single block, and for a level outside (0, 1).

    >>> features = np.random.default_rng(0).normal(size=(400, 8))
    >>> found = kernel_interval(features[:200], features[200:], block_size=40)
    >>> found.low < 0 < found.high
    True
    """
    if not 0 < level < 1:
        raise ValueError(f"A confidence level must lie in (0, 1), got {level}.")
    first, second = as_pair(real, fake, at_least=2, dtype=None)
    blocks = _blocks(first, second, block_size)
    values = block_estimates(first, second, blocks, degree=degree, scale=scale, offset=offset, seed=seed)
    if len(values) < 2:
        raise ValueError(
            f"An interval needs at least two blocks, but block_size {block_size} makes one: use smaller blocks."
        )
    mean, low, high = (float(end) for end in student_interval(values, level))
    return Interval(mean, low, high, level)


def _blocks(first: np.ndarray, second: np.ndarray, block_size: int) -> int:
    """The number of blocks of at most `block_size` samples."""
    if block_size < 2:
        raise ValueError(f"A block needs at least two samples, got block_size {block_size}.")
    blocks = -(-max(len(first), len(second)) // block_size)
    if min(len(first), len(second)) < 2 * blocks:
        raise ValueError(
            f"{len(first)} real and {len(second)} fake samples in {blocks} blocks of {block_size} leave a block "
            "with fewer than two: use sets of similar size, or larger blocks."
        )
    return blocks


def block_estimates(
    first: np.ndarray,
    second: np.ndarray,
    blocks: int,
    *,
    degree: int = 3,
    scale: float | None = None,
    offset: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """The unbiased squared MMD of each pair of blocks, `[blocks]`.

    With the same seed and number of blocks the blocks of the first set are the same, whatever the second is.
    """
    if not isinstance(degree, int | np.integer) or degree < 1:
        raise ValueError(f"The kernel's degree must be a whole number from 1, got {degree!r}.")
    rng = np.random.default_rng(seed)
    pieces = [np.array_split(rng.permutation(len(side)), blocks) for side in (first, second)]
    values = []
    for rows, columns in zip(*pieces, strict=True):
        values.append(unbiased_mmd(first[rows], second[columns], degree=degree, scale=scale, offset=offset))
    return np.array(values)
