"""A turn moves its players, from one point, and touches nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan import wgan
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from tests import helpers
from tests.helpers import PRIOR, context, dirac_game


def test_a_simultaneous_turn_moves_both_from_the_same_point():
    """WGAN Dirac: psi' = psi - h theta, theta' = theta + h psi, both from the old point."""
    game = dirac_game(wgan(PRIOR), lr=0.1, schedule=(turn("critic", "generator"),))
    state = helpers.dirac_train_state(jnp.array(0.5), jnp.array(2.0))
    after, metrics = apply_turn(game.schedule[0], context(game, state.players, {"x": jnp.zeros((4, 1))}))
    np.testing.assert_allclose(after["critic"].params, 0.5 - 0.1 * 2.0)
    np.testing.assert_allclose(after["generator"].params, 2.0 + 0.1 * 0.5)
    # D(x) = 0 at the data, psi theta = 1 at the model.
    np.testing.assert_allclose(metrics["critic/loss"], 1.0)
    np.testing.assert_allclose(metrics["generator/loss"], -1.0)


def test_the_others_stay_as_they_are():
    game = helpers.game(gan(PRIOR))
    before = helpers.players_of(game)
    after, metrics = apply_turn(turn("critic"), context(game, before, helpers.batch()))
    assert after["generator"] is before["generator"]
    assert set(metrics) == {"critic/loss"}
    # The critic judged twice, real and fake, and counted both calls in its statistics.
    assert after["critic"].model_state["calls"] == before["critic"].model_state["calls"] + 2


def test_diagnostics_read_the_players_before_and_after():
    game = helpers.game(gan(PRIOR), lr=0.5)

    def moved(played):
        (name,) = played.turn.players
        before, after = played.context.players[name], played.after[name]
        step = jax.tree.map(lambda a, b: a - b, after.params, before.params)
        worst = jax.tree.map(lambda s, g: jnp.max(jnp.abs(s + 0.5 * g)), step, played.grads[name])
        return {
            f"{name}/error": sum(jax.tree.leaves(worst)),
            f"{name}/real": played.losses[name].outputs.real.score[0],
        }

    before = helpers.players_of(game)
    _, metrics = apply_turn(turn("critic"), context(game, before, helpers.batch()), [moved])
    assert metrics["critic/error"] < 1e-6
    assert set(metrics) == {"critic/loss", "critic/error", "critic/real"}
