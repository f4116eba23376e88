"""A number and how sure of it one is."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """A value and its standard error (NaN where one block or one projection cannot tell).

    >>> float(Estimate(0.25, 0.01))
    0.25
    """

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


class Interval(NamedTuple):
    """A value between the ends of a confidence interval.

    Attributes:
      value: the estimate from all samples.
      low, high: the interval's ends.
      level: the probability with which such an interval covers the truth.
    """

    value: float
    low: float
    high: float
    level: float

    def __float__(self) -> float:
        return self.value
