"""Which checkpoints are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from gan_jax.training.experiment import Best


class Evaluated(NamedTuple):
    """The evaluation of a saved step.

    Attributes:
      metrics: its numbers by name.
      measured_by: what identifies how they were measured; numbers that were measured otherwise are not compared.
    """

    metrics: Mapping[str, float | None]
    measured_by: str = ""


def steps_to_keep(steps: Mapping[int, Evaluated], keep: int, best: Best | None = None) -> set[int]:
    """Which of the saved steps stay: the `keep` latest, and the best by a metric, of each way of measuring it.

    >>> scores = {100: 9.0, 200: 4.0, 300: 6.0, 400: None}
    >>> steps = {step: Evaluated({"frechet": score}) for step, score in scores.items()}
    >>> sorted(steps_to_keep(steps, keep=1, best=Best("frechet")))
    [200, 400]
    """
    kept = set(sorted(steps)[-keep:])
    if best is not None:
        for measured_by in {step.measured_by for step in steps.values()}:
            kept |= set(_ranked(steps, best, measured_by)[: best.keep])
    return kept


def ranked(steps: Mapping[int, Evaluated], best: Best) -> list[int]:
    """The steps that have a finite number of `best`'s metric, the best first; of equals the later.

    Only those are there whose number was measured as the latest was.

    >>> ranked({1: Evaluated({"d": 1.0}, "pixels"), 2: Evaluated({"d": 7.0}, "inception")}, Best("d"))
    [2]
    """
    scored = [step for step, found in steps.items() if _score(found, best) is not None]
    return _ranked(steps, best, steps[max(scored)].measured_by) if scored else []


def _ranked(steps: Mapping[int, Evaluated], best: Best, measured_by: str) -> list[int]:
    scored = [
        (score, -step)
        for step, found in steps.items()
        if found.measured_by == measured_by and (score := _score(found, best)) is not None
    ]
    return [-negative for _, negative in sorted(scored)]


def _score(found: Evaluated, best: Best) -> float | None:
    """The number by which a step is ranked, lower is better; `None` where it has none."""
    value = found.metrics.get(best.metric)
    if value is None or not math.isfinite(value):
        return None
    return value if best.mode == "min" else -value
