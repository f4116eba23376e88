"""clip_params bounds parameters, not updates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.objectives import wgan
from gan_jax.objectives.wgan import warm_up
from gan_jax.optim import clip_params, lazy_adam, round_of_update
from gan_jax.schedule import alternating, regularization_turn, turn


class ClipParams(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_parameters_end_inside_the_bound(self):
        optimizer = optax.chain(optax.sgd(1.0), clip_params(0.5))
        params = {"a": jnp.array([0.0, 0.4, -0.4, 3.0]), "b": jnp.array(-0.2)}
        grads = {"a": jnp.array([0.1, -1.0, 1.0, 0.0]), "b": jnp.array(0.1)}

        @self.variant
        def step(params):
            updates, _ = optimizer.update(grads, optimizer.init(params), params)
            return optax.apply_updates(params, updates)

        after = step(params)
        # By hand: 0 - .1; .4 + 1 -> .5; -.4 - 1 -> -.5; 3 -> .5, though its gradient is zero.
        np.testing.assert_allclose(after["a"], [-0.1, 0.5, -0.5, 0.5], rtol=1e-6)
        np.testing.assert_allclose(after["b"], -0.3, rtol=1e-6)


def test_large_updates_inside_the_bound_are_unchanged():
    """optax.clip(0.5) would cut this update of 0.9."""
    updates, _ = clip_params(0.5).update(jnp.array([0.9]), optax.EmptyState(), jnp.array([-0.45]))
    np.testing.assert_allclose(updates, [0.9], rtol=1e-6)


def test_exceeds_the_bound_by_rounding_at_most():
    params = jax.random.normal(jax.random.key(0), (1000,))
    updates, _ = clip_params(0.01).update(10 * params, optax.EmptyState(), params)
    after = np.abs(optax.apply_updates(params, updates))
    assert after.max() <= 0.01 + np.spacing(np.float32(np.abs(params).max()))


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_bound_must_be_positive(bound):
    with pytest.raises(ValueError, match="clipping bound c must be positive"):
        clip_params(bound)


def test_needs_params():
    with pytest.raises(ValueError, match="call update"):
        clip_params(0.1).update(jnp.zeros(1), optax.EmptyState())


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [
        # sqrt(v) = 1e-6 after many steps of one gradient g = 1e-6, and 1e-6 / (1e-6 + 1e-8) = 1 / 1.01.
        (wgan.optimizer(), -5e-5 / 1.01),
        # The same with Adam: m / (sqrt(v) + 1e-8).
        (lazy_adam(2e-3, every=1), -1e-3 / 1.01),
    ],
    ids=["wgan's RMSProp", "lazy Adam"],
)
def test_small_gradients_take_whole_steps(optimizer, step):
    """The stabiliser stands beside the root, as in the authors' frameworks."""
    params, gradient = jnp.zeros(()), jnp.asarray(1e-6)

    def one(state, _):
        update, state = optimizer.update(gradient, state, params)
        return state, update

    _, updates = jax.lax.scan(one, optimizer.init(params), length=2000)
    np.testing.assert_allclose(updates[-1], step, rtol=1e-4)


def test_wgans_first_step_is_that_of_pytorch():
    """v = .01 g^2 after one step: lr g / (.1 g + 1e-8), 10 lr for a gradient of any size but the smallest."""
    optimizer = wgan.optimizer(1.0)
    update, _ = optimizer.update(jnp.array([2.0, 1e-7]), optimizer.init(jnp.zeros(2)))
    np.testing.assert_allclose(update, [-10.0, -1e-7 / (1e-8 + 1e-8)], rtol=1e-5)


def counted(player, schedule, phases, rounds):
    """The round of each of a player's updates, one after the other."""
    found = []
    for step in range(rounds):
        turns = next((phase for holds, phase in phases if holds(step)), schedule)
        found += [step for turn in turns if player in turn.players and step % turn.every == 0]
    return found


@pytest.mark.parametrize("player", ["critic", "generator"])
@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        (alternating(5), warm_up(critic_turns=100, first=25, every=30)),
        (alternating(3), ()),
        ((*alternating(), regularization_turn("critic", "r1", every=4)), ()),
        ((turn("critic"), turn("generator"), regularization_turn("generator", "path", every=3)), ()),
        ((turn("critic"),), ((lambda step: step % 7 == 3, (turn("generator"), turn("critic"))),)),
    ],
    ids=["warm-up", "critic turns", "lazy critic", "lazy generator", "rounds without"],
)
def test_updates_are_told_the_round_that_they_are_in(player, schedule, phases):
    """By counting them: a learning rate that falls by rounds would fall too soon by updates over critic turns."""
    rounds = counted(player, schedule, phases, 60)
    of = jax.jit(round_of_update(player, schedule, phases, 60))
    assert [int(of(count)) for count in range(len(rounds))] == rounds
