"""The birthday paradox as a measure of a generator's support (Arora and Zhang, 2017).

Among s samples of a uniform distribution on N points two coincide with probability 1/2 if s is about
`sqrt(2 N log 2)`. Duplicates in small batches therefore bound the support. A non-uniform distribution has more
duplicates; the estimate is then the size of the uniform distribution with equally many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from gan_jax.metrics._check import as_samples
from gan_jax.metrics.two_sample import TwoSampleResult


def collision_probability(support: float, samples: int) -> float:
    """The probability that any two of `samples` draws from a uniform distribution on `support` points are equal.

    >>> round(collision_probability(365, 23), 3)
    0.507
    """
    if samples < 2:
        return 0.0
    if support <= samples - 1:
        return 1.0
    return float(-np.expm1(np.log1p(-np.arange(samples) / support).sum()))


def samples_for_collision(support: float, probability: float = 0.5) -> int:
    """The number of draws with a duplicate with at least this probability; about `sqrt(2 N log 2)` for 1/2.

    Args:
      support: N, the number of equally likely points, at least 1.
      probability: in (0, 1).

    Raises:
      ValueError: if an argument is out of range.

    >>> samples_for_collision(365), samples_for_collision(10_000)
    (23, 119)
    """
    if not 0 < probability < 1 or not support >= 1:
        raise ValueError(
            f"Expected a probability in (0, 1) and a support of at least 1, got {probability} and {support}."
        )
    high = 2
    while collision_probability(support, high) < probability:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if collision_probability(support, middle) >= probability else (middle, high)
    return high


def support_for_collision(probability: float, samples: int) -> float:
    """The support for which this many draws have a duplicate with this probability; infinite for 0.

    >>> round(support_for_collision(collision_probability(500, 30), 30))
    500
    """
    if samples < 2 or not 0 <= probability <= 1:
        raise ValueError(
            f"Expected a probability in [0, 1] and at least two samples, got {probability} and {samples}."
        )
    if probability == 0:
        return float("inf")
    if probability == 1:
        return float(samples - 1)
    from scipy.optimize import brentq

    least, most = np.log(samples - 1), np.log(samples**2 / probability)
    return float(
        np.exp(brentq(lambda log: collision_probability(np.exp(log), samples) - probability, least, most))
    )


class SupportSize(NamedTuple):
    """An estimate of the size of a generator's support.

    Attributes:
      value: the support of a uniform distribution with equally many duplicates; infinite without duplicates.
      low, high: its confidence interval (Clopper and Pearson's, of the probability of a duplicate).
      level: the confidence level, in (0, 1).
      hits: batches with a duplicate.
      batches: the number of batches.
      batch_size: samples in each.
    """

    value: float
    low: float
    high: float
    level: float
    hits: int
    batches: int
    batch_size: int

    def __float__(self) -> float:
        return self.value


def support_size(
    samples: ArrayLike,
    batch_size: int,
    *,
    tolerance: float = 0.0,
    duplicate: Callable[[np.ndarray], bool] | None = None,
    level: float = 0.95,
) -> SupportSize:
    """Estimates a support from duplicates in batches of samples.

    Time is O(N batch_size D), memory O(batch_size^2 + N D).

    Args:
      samples: `[N, ...]`, independent, cut in order into `N // batch_size` batches.
      batch_size: samples in a batch. The interval is tightest where about every second batch has a duplicate.
      tolerance: two samples within this Euclidean distance are duplicates.
      duplicate: `[batch_size, D] -> bool` in place of the tolerance, such as a person's or a network's judgement.
      level: of the confidence interval.

    Raises:
      ValueError: for bad samples, a batch size below 2 or above N, a negative tolerance, or a level outside (0, 1).

    >>> rolls = np.random.default_rng(0).integers(365, size=(23 * 400, 1))
    >>> found = support_size(rolls, batch_size=23)
    >>> found.low < 365 < found.high
    True
    """
    if not 0 < level < 1:
        raise ValueError(f"A confidence level must lie in (0, 1), got {level}.")
    from scipy.stats import binomtest  # imported here, as it takes half a second

    hits, batches = _count_hits(samples, batch_size, tolerance, duplicate)
    interval = binomtest(hits, batches).proportion_ci(level, method="exact")
    value, low, high = (
        support_for_collision(float(p), batch_size) for p in (hits / batches, interval.high, interval.low)
    )
    return SupportSize(value, low, high, level, hits, batches, batch_size)


def birthday_test(
    samples: ArrayLike,
    support: float,
    batch_size: int,
    *,
    tolerance: float = 0.0,
    duplicate: Callable[[np.ndarray], bool] | None = None,
) -> TwoSampleResult:
    """Tests the hypothesis of a uniform support with at least `support` points, by the number of duplicates.

    Time is O(N batch_size D), memory O(batch_size^2 + N D).

    Args:
      samples: `[N, ...]`, cut into batches.
      support: the hypothesis' size.
      batch_size, tolerance, duplicate: as in `support_size`.

    Returns:
      The fraction of batches with a duplicate, and the exact binomial p-value of at least as many; it is small if
      the support is smaller (or not uniform).

    Raises:
      ValueError: as for `support_size`.
    """
    from scipy.stats import binom

    hits, batches = _count_hits(samples, batch_size, tolerance, duplicate)
    expected = collision_probability(support, batch_size)
    details = {
        "test": "birthday",
        "support": support,
        "batch_size": batch_size,
        "batches": batches,
        "tolerance": None if duplicate else tolerance,
    }
    return TwoSampleResult(hits / batches, float(binom.sf(hits - 1, batches, expected)), details)


def _count_hits(
    samples: ArrayLike,
    batch_size: int,
    tolerance: float,
    duplicate: Callable[[np.ndarray], bool] | None,
) -> tuple[int, int]:
    """The number of batches with a duplicate, and the number of batches."""
    points = as_samples(samples, "samples")
    if not 2 <= batch_size <= len(points) or tolerance < 0:
        raise ValueError(
            f"A batch needs 2 to {len(points)} samples and a tolerance >= 0, got {batch_size} and {tolerance}."
        )
    batches = len(points) // batch_size
    parts = points[: batches * batch_size].reshape(batches, batch_size, -1)
    if duplicate is not None:
        return sum(bool(duplicate(part)) for part in parts), batches
    if tolerance == 0:
        return sum(len(np.unique(part, axis=0)) < batch_size for part in parts), batches
    return sum(bool(pdist(part).min() <= tolerance) for part in parts), batches
