"""Which checkpoints are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gan_jax.training.experiment import Best


def steps_to_keep(
    metrics: Mapping[int, Mapping[str, float | None]], keep: int, best: Best | None = None
) -> set[int]:
    """Which of the saved steps stay: the `keep` latest, and the best by a metric.

    >>> scores = {100: {"frechet": 9.0}, 200: {"frechet": 4.0}, 300: {"frechet": 6.0}, 400: {}}
    >>> sorted(steps_to_keep(scores, keep=1, best=Best("frechet")))
    [200, 400]
    """
    latest = set(sorted(metrics)[-keep:])
    return latest | set(ranked(metrics, best)[: best.keep] if best else ())


def ranked(metrics: Mapping[int, Mapping[str, float | None]], best: Best) -> list[int]:
    """The steps that have a finite number of `best`'s metric, the best first; of equals the later."""
    sign = 1.0 if best.mode == "min" else -1.0
    scored = [
        (sign * value, -step)
        for step, found in metrics.items()
        if (value := found.get(best.metric)) is not None and math.isfinite(value)
    ]
    return [-negative for _, negative in sorted(scored)]
