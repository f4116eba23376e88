"""Evaluations of what is found of every sample: classes, modes, errors; with intervals by resampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gan_jax.evaluation.score_intervals import LEVEL
from gan_jax.metrics.estimate import Bootstrap

RESAMPLES = 200


class Measured(NamedTuple):
    """Numbers of samples.

    Attributes:
      values: by metric.
      intervals: bounds of those that have some.
    """

    values: dict[str, Any]
    intervals: dict[str, tuple[float, float]]


class SampleMeasure:
    """An evaluation by what is found of every sample: `samples [N, ...] -> {metric: number}`, or with intervals
    `Measured`.

    Args:
      find: `samples [N, ...] -> found [N, ...]`.
      summarize: `found [N, ...] -> {metric: number}`; whole numbers are counts and have no interval.
      most: the largest values of metrics that have one, such as 1 for shares. None is below 0.
      intervals: whether there are intervals, of 95 %: the samples are drawn again with replacement `RESAMPLES`
        times, and bounds are corrected for the bias of few samples, as those of the Frechet distance.

    >>> measure = SampleMeasure(lambda x: x > 0, lambda found: {"positive": float(found.mean())}, {"positive": 1.0})
    >>> measure(np.array([1.0, 2.0, -1.0, 3.0]))
    {'positive': 0.75}
    >>> low, high = measure.with_intervals()(np.repeat([1.0, -1.0], 200)).intervals["positive"]
    >>> 0.44 < low < 0.46 < 0.54 < high < 0.56  # .5 +- 1.97 sqrt(.25 / 400)
    True
    """

    def __init__(
        self,
        find: Callable[[np.ndarray], np.ndarray],
        summarize: Callable[[np.ndarray], Mapping[str, Any]],
        most: Mapping[str, float] | None = None,
        intervals: bool = False,
    ) -> None:
        self._find, self._summarize, self._most, self._intervals = (
            find,
            summarize,
            dict(most or {}),
            intervals,
        )

    def with_intervals(self) -> SampleMeasure:
        """The same evaluation with intervals."""
        return SampleMeasure(self._find, self._summarize, self._most, intervals=True)

    def __call__(self, samples: np.ndarray) -> dict[str, Any] | Measured:
        """The numbers of samples."""
        found = self._find(samples)
        values = dict(self._summarize(found))
        if not self._intervals or len(found) < 2:
            return values
        rng = np.random.default_rng(0)
        draws = [self._summarize(found[rng.integers(len(found), size=len(found))]) for _ in range(RESAMPLES)]
        intervals = {}
        for name, value in values.items():
            drawn = np.array([draw[name] for draw in draws], float)
            # Where all resamples agree nothing is known of the spread.
            if (
                isinstance(value, float)
                and np.isfinite(value)
                and np.all(np.isfinite(drawn))
                and np.ptp(drawn)
            ):
                _, low, high = Bootstrap(np.array([value]), drawn[None], len(found) - 1).interval(0, LEVEL)
                intervals[name] = (max(low, 0.0), min(high, self._most.get(name, np.inf)))
        return Measured(values, intervals)
