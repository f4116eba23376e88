import math

import numpy as np
import pytest
from scipy import stats

from gan_jax.functional.intervals import student_interval


def test_three_values_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt 3, t(.975, 2) = 4.3027 (any table)."""
    found = student_interval([1.0, 2.0, 3.0])
    np.testing.assert_allclose(found, [2, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5], rtol=1e-5)


def test_a_single_value_has_no_interval():
    assert student_interval([5.0]) == (5.0, -math.inf, math.inf)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_it_is_scipys_along_the_first_axis(level):
    values = np.random.default_rng(0).normal(size=(6, 2, 3))
    mean, low, high = student_interval(values, level)
    expected = stats.t.interval(level, 5, values.mean(axis=0), stats.sem(values))
    np.testing.assert_allclose([low, high], expected)
    np.testing.assert_allclose(mean, values.mean(axis=0))
