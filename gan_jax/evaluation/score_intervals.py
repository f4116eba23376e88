"""Intervals of the scores of samples, by the same resamples, blocks and counts as those of a comparison of sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gan_jax.metrics import Features, Scores

LEVEL = 0.95
_FROM_PAIRS = ("frechet", "kernel", "score", "neighbors", "spatial", "monge")
"""Metrics whose intervals are those of `metrics.paired`."""
_NO_INTERVAL = {
    "wasserstein_1": "no interval of the exact distance is known to hold where the distributions are nearly equal",
    "coverage_ceiling": "it follows from the numbers of samples",
}


def with_intervals(
    scores: Scores, real: Features, fake: Features, which: Sequence[str], *, neighbors: int = 5
) -> Scores:
    """Scores with the intervals of those that have one, and precision and recall if these are asked for.

    An interval is of the score of the distributions. It corrects the bias of few samples, as in
    `gan_jax.compare`, so that a value can lie outside.

    Args:
      scores: those of `metrics.image_scores` with their seed; `neighbors` may be missing.
      real, fake: the features that they are of.
      which: the metrics, by the names of `metrics.image_scores`, or `wasserstein`.
      neighbors: k of precision and recall.
    """
    from gan_jax.metrics import expected_coverage
    from gan_jax.metrics.features import names_of
    from gan_jax.metrics.paired import Real, Settings, paired_scores
    from gan_jax.metrics.summaries import Summary

    most = max(len(real.features), len(fake.features))
    settings = Settings(neighbors=neighbors, pairs=most, seed=scores.fingerprint.seed, level=LEVEL)
    names = names_of(real.extractor)
    asked = [
        name
        for name in _FROM_PAIRS
        if name in which and (name == "neighbors" or names[name] in scores.values)
    ]
    first, second = (Summary(len(side.features), side, None, {}) for side in (real, fake))
    found = paired_scores(Real(first), [second], asked, settings)
    values, left_out = dict(scores.values), dict(scores.left_out)
    intervals: dict[str, tuple[float, float]] = {}
    without: dict[str, str] = {}
    for title, measured in found.measured.items():
        name = title.partition(" (")[0]
        value, low, high = measured.bounds[0]
        value = values.setdefault(name, value)
        if name == names["kernel"]:  # by at least ten blocks; the value may be by fewer
            low, high = value - (high - low) / 2, value + (high - low) / 2
        if math.isfinite(low) and math.isfinite(high):
            intervals[name] = (low, high)
        else:
            without[name] = measured.without
    if "neighbors" in found.left_out:
        left_out["neighbors"] = found.left_out["neighbors"]
    elif "neighbors" in asked:
        values["coverage_ceiling"] = expected_coverage(
            len(real.features), len(fake.features), neighbors=neighbors
        )
    if "sliced_wasserstein" in values:
        intervals["sliced_wasserstein"] = _sliced(real, fake, settings.seed)
    without |= {name: why for name, why in _NO_INTERVAL.items() if name in values}
    return dataclasses.replace(
        scores,
        values=values,
        left_out={k: why for k, why in left_out.items() if k.removesuffix("_error") not in intervals},
        intervals=intervals,
        without_interval=without,
    )


def _sliced(real: Features, fake: Features, seed: int) -> tuple[float, float]:
    """The root of the interval of the mean over directions of `W_2^2`, the directions held fixed."""
    from gan_jax.metrics.monge import monge_bootstrap
    from gan_jax.metrics.transport import PROJECTIONS

    drawn = monge_bootstrap(real.features, [fake.features], directions=PROJECTIONS, seed=seed)
    _, low, high = drawn.interval(0, LEVEL)
    scale = 3 * real.features.shape[1]
    lower, upper = np.sqrt(np.maximum([low / scale, high / scale], 0.0))
    return float(lower), float(upper)
