"""Metrics and evaluations over several seeds: means, their intervals, and each seed's values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.functional.intervals import student_interval


def summary(metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Summarises metrics `[S, ...]` of S seeds: `name` is their mean, `name/interval` the mean's 95 % interval over
    the seeds (Student's t, infinite for a single seed), and `name/seeds` holds each seed's value.

    >>> line = summary({"loss": np.array([1.0, 3.0])})
    >>> line["loss"], line["loss/seeds"], [round(bound, 2) for bound in line["loss/interval"]]
    (2.0, [1.0, 3.0], [-10.71, 14.71])
    """
    line: dict[str, Any] = {}
    for name, values in metrics.items():
        mean, low, high = student_interval(values)
        line |= {
            name: mean.tolist(),
            f"{name}/interval": [low.tolist(), high.tolist()],
            f"{name}/seeds": np.asarray(values, np.float64).tolist(),
        }
    return line


def metrics_of_seed(line: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The metrics of one seed from a line that `summary` made.

    >>> metrics_of_seed({"step": 5, **summary({"loss": np.array([1.0, 3.0])})}, 1)
    {'loss': 3.0}
    """
    return {
        name.removesuffix("/seeds"): values[seed] for name, values in line.items() if name.endswith("/seeds")
    }


def combined(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combines the evaluations of several seeds.

    Returns:
      A dict like a single evaluation, with means in place of the numbers, NaN for one that some seed lacks: a mean
      of the others would be of other seeds than those beside it. It also has the `seeds`, the `intervals`
      of the means (see `summary`), and the numbers of `each` seed, with its own `intervals` and `floors` if it has
      any, and its `fingerprints`: a seed may have held out other examples than the first.
    """
    parts = ("samples", "players")
    owned = (*parts, "intervals", "floors", "fingerprints")
    return {
        **evaluations[0],
        **{part: _over_seeds(_mean, [evaluation[part] for evaluation in evaluations]) for part in parts},
        "intervals": {
            part: _over_seeds(_interval, [evaluation[part] for evaluation in evaluations]) for part in parts
        },
        "seeds": [evaluation["seed"] for evaluation in evaluations],
        "each": [
            {part: evaluation[part] for part in owned if part in evaluation} for evaluation in evaluations
        ],
    }


def _over_seeds(statistic: Callable[[np.ndarray], Any], trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A statistic of every number over the seeds, NaN for seeds that lack it; any other value is the first's."""
    combination: dict[str, Any] = {}
    for name in dict.fromkeys(name for tree in trees for name in tree):
        values = [tree.get(name) for tree in trees]
        there = [value for value in values if value is not None]
        if there and isinstance(there[0], Mapping):
            combination[name] = _over_seeds(statistic, [{} if value is None else value for value in values])
        elif there and all(map(is_number, there)):
            combination[name] = statistic(
                np.array([math.nan if v is None else v for v in values], np.float64)
            )
        else:
            combination[name] = values[0]
    return combination


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _interval(values: np.ndarray) -> list[float]:
    return summary({"": values})["/interval"]


def is_number(value: Any) -> bool:
    """Tells whether a metric is a single number."""
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)
