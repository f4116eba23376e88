"""Metrics and evaluations of several seeds: means, their intervals, and the numbers of each seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.functional.intervals import student_interval


def summary(metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Metrics `[S, ...]` as their mean, its 95 % interval over the seeds (Student's t), and each seed's value.

    The interval of a single seed is infinite.

    >>> found = summary({"loss": np.array([1.0, 3.0])})
    >>> found["loss"], found["loss/seeds"], [round(bound, 2) for bound in found["loss/interval"]]
    (2.0, [1.0, 3.0], [-10.71, 14.71])
    """
    found: dict[str, Any] = {}
    for name, values in metrics.items():
        mean, low, high = student_interval(values)
        found |= {
            name: mean.tolist(),
            f"{name}/interval": [low.tolist(), high.tolist()],
            f"{name}/seeds": np.asarray(values, np.float64).tolist(),
        }
    return found


def metrics_of_seed(line: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One seed's metrics of a line that `summary` made.

    >>> metrics_of_seed({"step": 5, **summary({"loss": np.array([1.0, 3.0])})}, 1)
    {'loss': 3.0}
    """
    return {
        name.removesuffix("/seeds"): values[seed] for name, values in line.items() if name.endswith("/seeds")
    }


def combined(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several seeds' evaluations as a single one.

    Returns:
      The form of one evaluation with means in the numbers' places; beside them `seeds`, the means' `intervals` (as
      `summary` has them), and what `each` seed gave.
    """
    parts = ("samples", "players")
    return {
        **evaluations[0],
        **{part: _over_seeds(_mean, [evaluation[part] for evaluation in evaluations]) for part in parts},
        "intervals": {
            part: _over_seeds(_interval, [evaluation[part] for evaluation in evaluations]) for part in parts
        },
        "seeds": [evaluation["seed"] for evaluation in evaluations],
        "each": [{part: evaluation[part] for part in parts} for evaluation in evaluations],
    }


def _over_seeds(statistic: Callable[[np.ndarray], Any], trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A statistic of every number over the seeds; anything else is the first seed's."""
    found: dict[str, Any] = {}
    for name, value in trees[0].items():
        values = [tree[name] for tree in trees]
        if isinstance(value, Mapping):
            found[name] = _over_seeds(statistic, values)
        else:
            found[name] = statistic(np.asarray(values, np.float64)) if is_number(value) else value
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _interval(values: np.ndarray) -> list[float]:
    return summary({"": values})["/interval"]


def is_number(value: Any) -> bool:
    """Whether a metric is one number."""
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)
