"""Gradients, weights and health on a linear critic, whose gradient is the difference of the means."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax import diagnostics
from gan_jax.diagnostics.norms import tree_cosine
from gan_jax.game import Game, Player
from gan_jax.network import Network
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan import optimizer, wgan
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from tests import helpers
from tests.helpers import PRIOR, context

W = jnp.array([3.0, 4.0])
REAL = np.array([[1.0, 0.0], [3.0, 2.0]], np.float32)
FAKE = np.array([[-1.0, 1.0], [1.0, 3.0]], np.float32)  # whatever z is


def linear_game(objective=None):
    """D(x) = w x, and a generator of two fixed points."""
    linear = Network(
        init=lambda key: ({"layer": {"w": W}}, ()),
        apply=lambda params, model_state, x, train, key: (x @ params["layer"]["w"], model_state),
    )
    fixed = Network(
        init=lambda key: ({"shift": jnp.zeros(2)}, ()),
        apply=lambda params, model_state, z, train, key: (FAKE + params["shift"], model_state),
    )
    return Game(
        players={"critic": Player(linear, optax.sgd(0.1)), "generator": Player(fixed, optax.sgd(0.1))},
        objective=objective or wgan(PRIOR),
        schedule=(turn("critic"),),
    )


def read(*diagnostics, game=None, player="critic", batch=None):
    """The metrics of one turn at the players before the first round; one program, compiled."""
    game = game or linear_game()

    @jax.jit
    def play(batch):
        players = helpers.players_of(game)
        return apply_turn(turn(player), context(game, players, batch), diagnostics)[1]

    return play(batch or {"x": REAL})


def test_a_linear_critics_gradient_is_the_difference_of_the_means():
    """grad_w (E w x_fake - E w x) = (0, 2) - (2, 1) = (-2, 1); the step is .1 of it, the weights are 5 long."""
    metrics = read(diagnostics.gradients)
    np.testing.assert_allclose(metrics["critic/gradient_norm"], 5**0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["critic/update_ratio"], 0.1 * 5**0.5 / 5, rtol=1e-5)
    metrics = read(diagnostics.gradients, player="generator")
    # grad_shift (-E w x_fake) = -w; parameters of length 0 have no ratio.
    np.testing.assert_allclose(metrics["generator/gradient_norm"], 5.0, rtol=1e-6)
    assert metrics["generator/update_ratio"] == 0


@pytest.mark.full
def test_layers_are_named_and_their_squares_add_up():
    game = helpers.game(wgan(PRIOR))
    both = (diagnostics.gradients, diagnostics.layer_gradients)
    metrics = read(*both, game=game, batch=helpers.batch())
    parts = {n.rpartition("/")[2]: v for n, v in metrics.items() if n.startswith("critic/gradient_norm/")}
    assert set(parts) == {"hidden", "score"}
    np.testing.assert_allclose(
        sum(v**2 for v in parts.values()), metrics["critic/gradient_norm"] ** 2, rtol=1e-5
    )
    assert "critic/update_ratio/hidden" in metrics


def test_the_slope_of_a_linear_critic_is_the_length_of_its_weights_everywhere():
    metrics = read(diagnostics.input_gradients)
    names = ["real", "fake", "interpolates", "interpolates_max"]
    np.testing.assert_allclose([metrics[f"critic/input_gradient_{n}"] for n in names], 5.0, rtol=1e-6)
    assert not [name for name in metrics if "probability" in name]


def test_the_slope_of_the_probability_is_that_of_the_sigmoid():
    """Scores w x are 3, 17 at the reals and 1, 15 at the fakes; interpolates are 1/4 and 3/4 of the way."""
    metrics = read(diagnostics.input_gradients, game=linear_game(gan(PRIOR)))
    for kind, scores in {"real": (3, 17), "fake": (1, 15), "interpolates": (1.5, 16.5)}.items():
        d = 1 / (1 + np.exp(-np.array(scores, np.float64)))
        expected = 5 * np.mean(d * (1 - d))
        np.testing.assert_allclose(metrics[f"critic/probability_gradient_{kind}"], expected, rtol=1e-4)
        np.testing.assert_allclose(metrics[f"critic/input_gradient_{kind}"], 5.0, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (3, 3, 2, 4)])
def test_spectral_norms_are_those_of_the_matrix(shape):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.linalg.svd(kernel.reshape(-1, shape[-1]), compute_uv=False)[0]
    np.testing.assert_allclose(diagnostics.spectral_norm(kernel), expected, rtol=1e-5)


def test_spectral_norms_name_every_kernel_and_no_bias():
    game = helpers.game(wgan(PRIOR))
    state = jax.eval_shape(lambda: helpers.init_state(game, jax.random.key(0)))
    found = jax.eval_shape(lambda s: diagnostics.spectral_norms(helpers.probe_context(game, s, s, {})), state)
    assert {"critic/spectral_norm/hidden/w", "generator/spectral_norm/sample"} <= set(found)
    assert not [name for name in found if name.endswith("/b")]


def test_spread_is_the_root_mean_square_over_all_pairs():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(7, 2, 3)) + 5)
    pairs = [np.sum((a - b) ** 2) for a in x for b in x]
    np.testing.assert_allclose(diagnostics.spread(x), np.sqrt(np.mean(pairs)), rtol=1e-5)
    np.testing.assert_allclose(diagnostics.relative_spread(x, 0.5 * x + 3), 0.5, rtol=1e-5)
    assert diagnostics.relative_spread(x, jnp.repeat(x[:1], 7, axis=0)) < 1e-5
    assert diagnostics.relative_spread(jnp.zeros((4, 1)), jnp.zeros((4, 1))) == 1, "data without spread"


@pytest.mark.full
def test_a_long_clipped_step_leaves_every_weight_on_the_bound():
    """lr 1000: RMSProp's first step is far longer than c, so all parameters that have a gradient end at c."""
    networks = {"critic": helpers.mlp(2, {"score": None}, hidden=64), "generator": helpers.generator()}
    game = helpers.game(wgan(PRIOR), networks_=networks)
    optimizers = {"critic": optimizer(1000.0, clip=0.01), "generator": optax.sgd(0.1)}
    players = {name: dataclasses.replace(p, optimizer=optimizers[name]) for name, p in game.players.items()}
    clipped = dataclasses.replace(game, players=players)
    for made, low, high in ((clipped, 0.99, 1.0), (game, 0.0, 0.05)):
        metrics = read(diagnostics.health, game=made, batch=helpers.batch())
        assert low <= metrics["critic/clipped_share"] <= high


def test_a_cosine_with_nothing_is_zero():
    assert tree_cosine({"a": jnp.ones(3)}, {"a": jnp.zeros(3)}) == 0
