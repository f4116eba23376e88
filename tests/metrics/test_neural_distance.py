"""The neural-net distance against total variation, which bounds every critic with values in [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.functional.divergences import gaussian_total_variation
from gan_jax.metrics import CriticFamily, neural_distance
from gan_jax.metrics.neural import apply_critic, init_critic


@pytest.mark.full
def test_it_approaches_the_total_variation_from_below():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) + np.array([2.0, 0.0])
    variation = 2 * stats.norm.cdf(1.0) - 1
    found = neural_distance(x, y, steps=200)
    assert 0.9 * variation < found.value < variation + 3 * found.standard_error
    assert found.test.p_value == 1 / 500
    assert "D-32-1" in found.test.details["family"]


@pytest.mark.full
def test_disjoint_sets_are_at_one_for_a_wide_family_and_nearer_for_a_bounded_one():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 1)), rng.normal(size=(200, 1)) + 12.0
    assert neural_distance(x, y).value == pytest.approx(1.0, abs=0.01)
    # A logistic critic with |w|, |b| <= 1/10 on inputs within about 1.4 of 0 stays within tanh-small of 1/2.
    weak = neural_distance(x, y, CriticFamily(depth=0, bound=0.1))
    reach = max(abs((z - 6.0) / 6.0).max() for z in (x, y)) * 1.1
    assert 0 < weak.value < np.tanh(0.1 * reach / 2) + 1e-6


@pytest.mark.full
def test_more_capacity_detects_more():
    """Arora et al.'s point: the distance depends on the family.

    One sigmoid is monotone, so it sees at most the best half-line; between N(0, 1) and N(0, 16) that is half of the
    total variation, which a hidden layer (an interval) reaches.
    """
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2000, 1)), 4 * rng.normal(size=(2000, 1))
    variation = float(gaussian_total_variation(0.0, 1.0, 0.0, 4.0))
    weak = neural_distance(x, y, CriticFamily(depth=0))
    strong = neural_distance(x, y, CriticFamily(depth=1, bound=4.0))
    assert weak.value < variation / 2 + 3 * weak.standard_error
    assert 0.8 * variation < strong.value < variation + 3 * strong.standard_error


@pytest.mark.full
def test_weights_stay_in_the_family():
    family = CriticFamily(width=4, depth=2, bound=0.25)
    layers = init_critic(jax.random.key(0), family, 3)
    assert [w.shape for w, _ in layers] == [(3, 4), (4, 4), (4, 1)]
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(layers)) <= 0.25
    scores = apply_critic(layers, jnp.zeros((5, 3)))
    np.testing.assert_array_equal(scores, 0.5)  # zero biases: sigmoid(0)


def test_a_family_has_a_positive_size():
    with pytest.raises(ValueError, match="width >= 1"):
        CriticFamily(width=0)
