"""A game of points at one moment, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax as gj
from gan_jax.explore.toy_frames import Extent, FrameMaker, push
from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.objectives.gan import gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from gan_jax.training.experiment import Experiment
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


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"minibatch": "stddev"}, False),
        full({"minibatch": "discrimination"}, False),
        ({"norm": "batch"}, True),
    ],
)
def test_only_critics_of_single_points_have_a_surface(fields, shown):
    """Batch normalisation has running statistics in evaluation; minibatch statistics compare the grid's points."""
    critic = gj.from_linen(gj.MLPCritic(widths=(4,), **fields), jnp.zeros((1, 2)))
    players = {
        "critic": gj.Player(critic, optax.sgd(0.1)),
        "generator": gj.Player(
            gj.from_linen(gj.MLPGenerator(output_shape=(2,), widths=(4,)), jnp.zeros((1, 3))), optax.sgd(0.1)
        ),
    }
    played = gj.Game(players=players, objective=gj.non_saturating(gj.gaussian(3)), schedule=gj.alternating())
    source = gj.from_toy(gj.toy.ring(), 8)
    experiment = Experiment(
        game=played,
        source=source,
        rounds=1,
        seed=0,
        log_every=1,
        checkpoint_every=1,
        sample_every=0,
        picture=lambda samples: None,
    )
    batch = {"x": jnp.asarray(gj.toy.ring().sample(jax.random.key(0), 8))}
    maker = FrameMaker(experiment, Extent(-1.0, 1.0, -1.0, 1.0), batch)
    surface = maker.frame(init_state(played, jax.random.key(0)))["surface"]
    assert (surface is not None) is shown


def test_the_grid_is_of_the_extents_cells():
    extent = Extent.around(np.array([[0.0, 0.0], [2.0, 1.0]]))
    grid = extent.grid(10)
    assert np.isclose(extent.right - extent.left, 2.8)
    assert np.isclose(extent.top - extent.bottom, 2.8)
    np.testing.assert_allclose(grid.mean(axis=0), [1.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(grid[1] - grid[0], [0.28, 0], atol=1e-6)
