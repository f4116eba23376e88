"""Confidence intervals of means."""

from __future__ import annotations

from typing import Any

import numpy as np

from gan_jax._lazy import Module

special = Module("scipy.special")  # a fifth of a second of every launch


def student_interval(values: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over the first axis and the bounds of its confidence interval.

    mean -+ t s / sqrt(S), where s^2 is the unbiased variance and t the quantile (1 + level) / 2 of Student's
    distribution with S - 1 degrees of freedom. The bounds are infinite if S = 1.

    >>> [round(float(end), 3) for end in student_interval([1.0, 2.0, 3.0])]  # 2 -+ 4.303 / sqrt 3
    [2.0, -0.484, 4.484]

    Args:
      values: `[S, ...]`, independent draws, such as one per seed; S is at least 1.
      level: the probability with which the interval of Gaussian draws covers their expectation.

    Returns:
      The mean, the lower bound and the upper bound, `[...]` each, in float64.
    """
    draws = np.asarray(values, np.float64)
    mean, count = draws.mean(axis=0), len(draws)
    if count == 1:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    reach = special.stdtrit(count - 1, (1 + level) / 2) * draws.std(axis=0, ddof=1) / np.sqrt(count)
    return mean, mean - reach, mean + reach
