"""A game of points at one moment, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.explore.toy_frames import Extent, push
from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.objectives.gan import gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from tests import helpers
from tests.helpers import B, game, init_state
from tests.tiers import full

SLOPE = np.array([0.5, -2.0], np.float32)


def linear_critic():
    """D(x) = a x."""

    def apply(params, model_state, x, *, train, key=None):
        return x @ params, model_state

    return Network(init=lambda key: (jnp.asarray(SLOPE), ()), apply=apply, inputs=helpers.spec(2))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("objective", "factor"),
    [
        (gan, sigmoid),  # -grad log(1 - sigmoid(D)) = sigmoid(D) a: nothing where D rejects
        full(non_saturating, lambda score: 1 - sigmoid(score)),  # grad log sigmoid(D)
        full(wgan, np.ones_like),
    ],
)
def test_the_push_on_samples_is_the_losses_gradient(objective, factor):
    played = game(
        objective(gaussian(3)), networks_={"critic": linear_critic(), "generator": helpers.generator()}
    )
    points = np.asarray(jax.random.normal(jax.random.key(1), (B, 2))) * 3
    found = push(
        played, "generator", init_state(played, jax.random.key(0)), helpers.batch(), jnp.asarray(points)
    )
    expected = factor(points @ SLOPE)[:, None] * SLOPE
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_grid_is_of_the_extents_cells():
    extent = Extent.around(np.array([[0.0, 0.0], [2.0, 1.0]]))
    grid = extent.grid(10)
    assert np.isclose(extent.right - extent.left, 2.8)
    assert np.isclose(extent.top - extent.bottom, 2.8)
    np.testing.assert_allclose(grid.mean(axis=0), [1.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(grid[1] - grid[0], [0.28, 0], atol=1e-6)
