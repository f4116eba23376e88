"""Numbers with their uncertainty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gan_jax._lazy import Module

special = Module("scipy.special")  # a fifth of a second of every launch


class Estimate(NamedTuple):
    """A value and its standard error, which is NaN for a single block or projection.

    >>> float(Estimate(0.25, 0.01))
    0.25
    """

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


class Interval(NamedTuple):
    """A value with a confidence interval.

    Attributes:
      value: the estimate from all samples.
      low, high: the bounds of the interval.
      level: the probability with which such an interval covers the truth.
    """

    value: float
    low: float
    high: float
    level: float

    def __float__(self) -> float:
        return self.value


class Bootstrap(NamedTuple):
    """A metric of F sets of fakes against one set of real samples, and its bootstrap.

    Attributes:
      values: `[F]`, the metric.
      draws: `[F, R]`, the metric of R resamples, the real samples of a resample being the same for all F.
      freedom: the degrees of freedom of Student's t, the size of the smallest set less one.
    """

    values: np.ndarray
    draws: np.ndarray
    freedom: int

    def interval(self, which: int, level: float, against: int | None = None) -> tuple[float, float, float]:
        """The value of set `which` and its bounds, or those of its difference from the value of set `against`.

        The bounds are corrected for the bootstrap's bias; see `frechet_interval`. R draws tell bias and spread only
        to within chance, so the interval is that of a new draw by a normal sample of R (Student's t).
        """
        value, draws = self.values[which], self.draws[which]
        if against is not None:
            value, draws = value - self.values[against], draws - self.draws[against]
        number = len(draws)
        center = 2 * value - draws.mean()
        reach = special.stdtrit(min(self.freedom, number - 1), (1 + level) / 2) * draws.std(ddof=1)
        reach *= np.sqrt(1 + 1 / number)
        return float(value), float(center - reach), float(center + reach)
