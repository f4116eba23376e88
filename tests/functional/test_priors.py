"""Priors: the distributions they say, pure functions of their key."""

import jax
import numpy as np
import pytest
from scipy import stats

from gan_jax.functional import priors

N = 4000


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (priors.gaussian(2), stats.norm()),
        (priors.uniform(2), stats.uniform(-1, 2)),
        (priors.uniform(2, 0.0, 1.0), stats.uniform(0, 1)),
    ],
)
def test_distribution(prior, reference):
    """Kolmogorov-Smirnov on either coordinate, and no correlation between them."""
    z = np.asarray(prior(jax.random.key(0), N))
    assert z.shape == (N, 2)
    for column in z.T:
        assert stats.kstest(column, reference.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(N)


def test_the_same_key_is_the_same_draw():
    prior = priors.gaussian(3)
    np.testing.assert_array_equal(prior(jax.random.key(1), 4), prior(jax.random.key(1), 4))
    assert not np.array_equal(prior(jax.random.key(1), 4), prior(jax.random.key(2), 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.gaussian(0), r"gaussian\(dim=0\): dim is a whole number, 1 or more"),
        (lambda: priors.gaussian(2.5), r"gaussian\(dim=2.5\)"),
        (lambda: priors.uniform(-1), r"uniform\(dim=-1\)"),
        (lambda: priors.uniform(2, 1.0, -1.0), r"uniform\(low=1.0\): low is a finite number.*-1\)"),
        (lambda: priors.uniform(2, 0.0, float("inf")), r"uniform\(high=inf\): high is a finite number"),
    ],
)
def test_sizes_and_bounds_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
