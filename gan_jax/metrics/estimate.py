"""Numbers with their uncertainty."""

from __future__ import annotations

from typing import NamedTuple


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
