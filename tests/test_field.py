"""The gradient field and its modifiers against derivatives of small games written out by hand."""

import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax import field as fields
from gan_jax.game import Game, Player
from gan_jax.objectives import unrolled
from gan_jax.objectives.gan import gan
from gan_jax.play import apply_turn
from gan_jax.schedule import simultaneous, turn
from gan_jax.state import PlayerState
from tests import helpers
from tests.helpers import PRIOR, context, dirac_game, scalar_network

# A quadratic game of two scalars: L_x = a x^2 / 2 + b x y, L_y = c y^2 / 2 + d x y; its Jacobian is constant.
A, B, C, D = 0.5, 1.0, -0.3, -2.0
JACOBIAN = np.array([[A, B], [D, C]])
POINT = np.array([0.7, -1.1])
H = 0.1
BOTH = turn("x", "y")


def quadratic_game(field=None):
    def loss_of(value):
        return lambda players, batch: value(players["x"].params, players["y"].params)

    losses = {
        "x": loss_of(lambda x, y: A * x**2 / 2 + B * x * y),
        "y": loss_of(lambda x, y: C * y**2 / 2 + D * x * y),
    }
    network = scalar_network(None)
    return Game(
        players={"x": Player(network, optax.sgd(H)), "y": Player(network, optax.sgd(H))},
        objective=helpers.plain_objective(losses),
        schedule=(BOTH,),
        field=field,
    )


def at_point():
    state = optax.sgd(H).init(0.0)
    return {
        n: PlayerState(jnp.asarray(v, jnp.float32), (), state, {}) for n, v in zip("xy", POINT, strict=True)
    }


def evaluate(field, played=BOTH):
    grads, out = field(played, context(quadratic_game(), at_point(), {}))
    assert set(grads) == set(out) == set(played.players)
    return np.array([grads[name] for name in played.players])


V = JACOBIAN @ POINT
ANTISYMMETRIC = (JACOBIAN - JACOBIAN.T) / 2

# field -> its value by linear algebra
BY_HAND = {
    "plain": (fields.gradient_field, V),
    "consensus": (fields.consensus(0.4), V + 0.4 * JACOBIAN.T @ V),
    "sga": (fields.symplectic_adjustment(0.4, align=False), V + 0.4 * ANTISYMMETRIC.T @ V),
    "extragradient": (fields.extragradient(), JACOBIAN @ (POINT - H * V)),
    "heun": (fields.runge_kutta(2), (V + JACOBIAN @ (POINT - H * V)) / 2),
    "consensus of consensus": (
        fields.consensus(0.4, fields.consensus(0.4)),
        # w = (I + .4 J^T) J p has the Jacobian M = (I + .4 J^T) J; then w + .4 M^T w.
        (lambda m: m @ POINT + 0.4 * m.T @ m @ POINT)((np.eye(2) + 0.4 * JACOBIAN.T) @ JACOBIAN),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_fields_of_a_quadratic_game(name):
    field, expected = BY_HAND[name]
    np.testing.assert_allclose(evaluate(field), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["consensus", "sga"])
def test_corrections_use_everyone_and_return_the_turns_player(name):
    """On x's own turn y does not move, but x's gradient is that of the whole field."""
    field, expected = BY_HAND[name]
    np.testing.assert_allclose(evaluate(field, turn("x")), expected[:1], rtol=1e-5)


def test_extragradient_on_a_single_players_turn_extrapolates_that_player_only():
    ahead = POINT - H * np.array([V[0], 0.0])
    np.testing.assert_allclose(evaluate(fields.extragradient(), turn("x")), (JACOBIAN @ ahead)[:1], rtol=1e-5)


def test_sga_aligns_with_balduzzis_sign():
    """sign(<v, J^T v> <A^T v, J^T v> / d + .1), computed here with numpy."""
    gradient_h, adjustment = JACOBIAN.T @ V, ANTISYMMETRIC.T @ V
    sign = np.sign((V @ gradient_h) * (adjustment @ gradient_h) / 2 + 0.1)
    np.testing.assert_allclose(
        evaluate(fields.symplectic_adjustment(0.4)), V + sign * 0.4 * adjustment, rtol=1e-5
    )


def test_runge_kutta_4_takes_the_classical_step():
    def flow(p):
        return -JACOBIAN @ p

    k1 = flow(POINT)
    k2 = flow(POINT + H / 2 * k1)
    k3 = flow(POINT + H / 2 * k2)
    k4 = flow(POINT + H * k3)
    np.testing.assert_allclose(evaluate(fields.runge_kutta(4)), -(k1 + 2 * k2 + 2 * k3 + k4) / 6, rtol=1e-5)


def test_runge_kutta_has_two_orders():
    with pytest.raises(ValueError, match="order 2 or 4, got 3"):
        fields.runge_kutta(3)


def test_plain_field_differentiates_each_loss_by_its_player_only():
    """The minimax generator's loss is minus the fake part of the critic's: each sees only its own gradient."""
    game = dirac_game(gan(PRIOR), lr=0.1, schedule=simultaneous())
    state = helpers.dirac_train_state(jnp.array(0.8), jnp.array(0.6))
    grads, _ = fields.gradient_field(game.schedule[0], context(game, state.players, {"x": jnp.zeros((2, 1))}))
    s = 1 / (1 + np.exp(-0.48))
    np.testing.assert_allclose(grads["critic"], s * 0.6, rtol=1e-6)
    np.testing.assert_allclose(grads["generator"], -s * 0.8, rtol=1e-6)


@pytest.mark.full
def test_replica_mean_is_the_mean_of_the_replicas_fields():
    """Under pmap on 4 devices: gradients, statistics and metrics are the mean of four single fields, each with
    its own part of the batch and its own key."""
    game = helpers.game(gan(PRIOR))
    players = helpers.players_of(game)
    batches = helpers.batch(shape=(4,))
    played = turn("critic", "generator")

    @jax.jit
    def single(batch, index):
        here = context(game, players, batch)
        here = here.with_key(jax.random.fold_in(here.turn_key, index))
        grads, out = fields.gradient_field(played, here)
        return grads, {n: (a.model_state, a.metrics) for n, a in out.items()}

    def replica(batch):
        grads, out = fields.replica_mean()(played, context(game, players, batch))
        latents = out["critic"].outputs.latent
        return grads, {n: (a.model_state, a.metrics) for n, a in out.items()}, latents

    *found, latents = jax.pmap(replica, axis_name="data", devices=jax.devices()[:4])(batches)
    each = [single(jax.tree.map(operator.itemgetter(i), batches), i) for i in range(4)]
    expected = jax.tree.map(lambda *parts: np.mean(np.stack(parts), 0), *each)
    for replica_index in range(4):
        chex.assert_trees_all_close(
            jax.tree.map(operator.itemgetter(replica_index), tuple(found)), expected, rtol=1e-5, atol=1e-7
        )
    assert len(np.unique(np.asarray(latents).reshape(4, -1), axis=0)) == 4


@pytest.mark.full
def test_unrolling_under_replica_mean_is_the_full_batchs_gradient():
    """The looked-ahead critic steps along all replicas' mean, and the generator's gradient runs through it: the
    result is that of one device with the whole batch. Nothing here is random, so the keys do not matter."""

    def whole(objective, field=None):
        return helpers.dirac_game(objective, lr=0.3, schedule=(turn("generator"),), field=field)

    objective = unrolled(gan(PRIOR), 2)
    players = helpers.dirac_train_state(jnp.array(0.8), jnp.array(0.6)).players
    x = jnp.linspace(-1.0, 2.0, 8)[:, None]
    expected, _ = apply_turn(turn("generator"), context(whole(objective), players, {"x": x}))
    replicas = whole(objective, fields.replica_mean())

    def step(x):
        after, _ = apply_turn(turn("generator"), context(replicas, players, {"x": x}))
        return after["generator"].params

    found = jax.pmap(step, axis_name="data", devices=jax.devices()[:4])(x.reshape(4, 2, 1))
    np.testing.assert_allclose(found, expected["generator"].params, rtol=1e-6, atol=1e-7)
    # Without the mean inside, each replica's critic would look ahead on its own two examples.
    assert not np.allclose(found, players["generator"].params)


def test_mean_over_replicas_does_not_change_integers():
    def replica(x):
        return fields.mean_over_replicas({"count": jnp.int32(3), "x": x})

    found = jax.pmap(replica, axis_name="data", devices=jax.devices()[:2])(jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(found["count"], [3, 3])
    np.testing.assert_array_equal(found["x"], [2.0, 2.0])


def test_advance_scales_the_step_and_not_the_state():
    """A fraction halves the parameters' update; the optimiser's state is that of the whole step."""
    game = quadratic_game()
    grads = {"x": jnp.array(2.0), "y": jnp.array(-1.0)}
    moved = fields.advance(game, at_point(), grads, 0.5)
    np.testing.assert_allclose(
        [moved["x"].params, moved["y"].params], POINT - H / 2 * np.array([2, -1]), rtol=1e-6
    )
