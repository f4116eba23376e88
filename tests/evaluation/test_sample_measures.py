"""Intervals of what is found of every sample: their coverage, their limits, and where there are none."""

import numpy as np
import pytest

from gan_jax.evaluation.sample_measures import SampleMeasure
from gan_jax.metrics.modes import class_statistics

SHARES = np.array([0.4, 0.3, 0.2, 0.06, 0.04])
KL = float(np.sum(SHARES * np.log(SHARES * 5)))
"""Of these shares from uniform ones."""


def of_classes():
    return SampleMeasure(lambda x: x, lambda found: class_statistics(found, 5), {"entropy": np.log(5)})


def test_an_interval_covers_the_divergence_of_the_shares_nineteen_times_in_twenty():
    """Of 300 samples the plug-in value is (5 - 1) / (2 x 300) = .0067 too large on average; bounds correct it."""
    rng, measure, hits = np.random.default_rng(0), of_classes().with_intervals(), 0
    for _ in range(100):
        low, high = measure(rng.choice(5, 300, p=SHARES)).intervals["reverse_kl"]
        hits += low <= KL <= high
    assert 89 <= hits <= 99


def test_counts_and_metrics_without_spread_have_none():
    found = of_classes().with_intervals()(np.repeat(np.arange(5), 20))
    assert set(found.intervals) == {"reverse_kl", "entropy"}
    assert found.values["modes_covered"] == 5
    assert of_classes().with_intervals()(np.zeros(50, int)).intervals == {}


@pytest.mark.parametrize(("right", "edge"), [(99, 1), (1, 0)])
def test_bounds_stay_within_a_shares_limits(right, edge):
    measure = SampleMeasure(lambda x: x, lambda found: {"share": float(found.mean())}, {"share": 1.0})
    found = measure.with_intervals()(np.arange(100) < right)
    assert found.values == {"share": right / 100}
    assert found.intervals["share"][edge] == edge


def test_what_is_found_is_found_once():
    calls = []

    def find(samples):
        calls.append(len(samples))
        return samples

    SampleMeasure(find, lambda found: {"mean": float(found.mean())}).with_intervals()(np.arange(10.0))
    assert calls == [10]
