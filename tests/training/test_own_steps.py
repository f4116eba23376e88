"""Terms with a separate optimiser step: lazy regularisation as in StyleGAN2."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.diagnostics import gradients, scores
from gan_jax.objectives import add_terms, r1
from gan_jax.objectives.gan import gan
from gan_jax.optim import lazy_adam
from gan_jax.schedule import regularization_turn, turn
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.helpers import PRIOR

C, G = turn("critic"), turn("generator")
EVERY = 4


def lazy_game(every=EVERY, **options):
    objective = add_terms(gan(PRIOR), r1(10.0, own_step=True))
    schedule = (C, G, regularization_turn("critic", "r1", every=every))
    return helpers.game(objective, schedule=schedule, **options)


def played(game, rounds):
    step = jax.jit(make_train_step(game))
    state = init_state(game, jax.random.key(0))
    history = []
    for place in range(rounds):
        state, metrics = step(state, helpers.batch(place, shape=(2,)))
        history.append(metrics)
    return state, history


@pytest.mark.full
def test_the_term_steps_in_every_fourth_round_and_its_optimiser_counts_so():
    """Adam's count: one step a round of the loss, one more in rounds 0, 4 and 8."""
    state, history = played(lazy_game(optimizer=optax.adam), 9)
    count = next(
        leaf for leaf in jax.tree.leaves(state.players["critic"].opt_state) if leaf.dtype == jnp.int32
    )
    assert count == 9 + 3
    logged = np.array([metrics["critic/r1"] for metrics in history])
    assert np.all((logged > 0) == (np.arange(9) % EVERY == 0))


@pytest.mark.full
def test_the_step_is_that_of_the_interval_times_the_term_on_the_preceding_batch():
    """By SGD: after the loss's step, theta moves by -lr * 4 * grad (gamma / 2) E ||grad D(x)||^2."""
    game = lazy_game(lr=0.05)
    without = helpers.game(gan(PRIOR), schedule=(C, G), lr=0.05)
    batches = helpers.batch(shape=(2,))
    before, _ = make_train_step(without)(init_state(without, jax.random.key(0)), batches)
    after, _ = make_train_step(game)(init_state(game, jax.random.key(0)), batches)
    x = batches["x"][1]
    network, player = game.players["critic"].network, before.players["critic"]

    def penalty(params):
        def score(x):
            return jnp.sum(network.apply(params, player.model_state, x, train=True)[0]["score"])

        return 10.0 / 2 * jnp.mean(jnp.sum(jax.grad(score)(x) ** 2, axis=1))

    expected = jax.tree.map(
        lambda p, g: p - 0.05 * EVERY * g, player.params, jax.grad(penalty)(player.params)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after.players["critic"].params,
        expected,
    )


@pytest.mark.full
def test_in_other_rounds_nothing_but_the_losses_moves():
    game, without = lazy_game(), helpers.game(gan(PRIOR), schedule=(C, G))
    batches = helpers.batch(shape=(2,))
    state = init_state(game, jax.random.key(0))._replace(step=jnp.int32(1))
    a, metrics = make_train_step(game)(state, batches)
    b, _ = make_train_step(without)(state, batches)
    jax.tree.map(np.testing.assert_array_equal, a.players["critic"].params, b.players["critic"].params)
    assert metrics["critic/r1"] == 0


def test_every_round_by_sgd_is_the_term_in_the_loss_but_for_the_point_it_is_taken_at():
    """With a small learning rate two steps are one: the difference is of second order."""
    joined = helpers.game(add_terms(gan(PRIOR), r1(10.0)), schedule=(C, G), lr=1e-4)
    a, _ = make_train_step(joined)(init_state(joined, jax.random.key(0)), helpers.batch(shape=(2,)))
    game = helpers.game(
        add_terms(gan(PRIOR), r1(10.0, own_step=True)),
        schedule=(C, regularization_turn("critic", "r1", every=1), G),
        lr=1e-4,
    )
    b, _ = make_train_step(game)(init_state(game, jax.random.key(0)), helpers.batch(shape=(2,)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        a.players["critic"].params,
        b.players["critic"].params,
    )


@pytest.mark.full
def test_diagnostics_are_of_the_losses_and_not_of_the_steps_of_terms():
    """The scores logged beside R1's step are those without it, and not half of them where it is not played."""
    lazy, plain = lazy_game(lr=0.0), helpers.game(gan(PRIOR), schedule=(C, G), lr=0.0)
    state, batches = init_state(lazy, jax.random.key(0)), helpers.batch(shape=(2,))
    for step in (0, 1):
        logged, expected = (
            make_train_step(game, diagnostics=(scores, gradients))(
                state._replace(step=jnp.int32(step)), batches
            )[1]
            for game in (lazy, plain)
        )
        for name in expected:
            np.testing.assert_allclose(logged[name], expected[name], rtol=1e-6, err_msg=name)


def test_the_mean_over_rounds_of_a_rare_turns_metrics_is_that_over_its_turns():
    """The generator moves in every third round: its loss counts three times there, and not in the others."""
    often = helpers.game(gan(PRIOR), schedule=(C, G), lr=0.0)
    rare = helpers.game(gan(PRIOR), schedule=(C, dataclasses.replace(G, every=3)), lr=0.0)
    state, batches = init_state(rare, jax.random.key(0)), helpers.batch(shape=(2,))
    first = make_train_step(often)(state, batches)[1]["generator/loss"]
    losses = [
        make_train_step(rare)(state._replace(step=jnp.int32(step)), batches)[1]["generator/loss"]
        for step in range(3)
    ]
    np.testing.assert_allclose(losses, [3 * first, 0.0, 0.0], rtol=1e-6)


def test_a_term_with_a_separate_step_needs_a_turn_and_vice_versa():
    objective = add_terms(gan(PRIOR), r1(own_step=True))
    with pytest.raises(ValueError, match=r"\('critic', 'r1'\).*no turn plays them"):
        helpers.game(objective, schedule=(C, G))
    with pytest.raises(ValueError, match=r"\('critic', 'r1'\).*add them with own_step=True"):
        helpers.game(gan(PRIOR), schedule=(C, G, regularization_turn("critic", "r1", every=4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regularization_turn("critic", every=4), "needs the name of at least one term"),
        (
            lambda: regularization_turn("critic", "r1", every=0),
            "n >= 1 rounds, n a whole number; got every=0",
        ),
        (
            lambda: lazy_adam(1e-3, every=0),
            r"lazy_adam\(every=0\): every is a whole number of rounds, 1 or more",
        ),
    ],
)
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lazy_adam_has_rescaled_constants():
    """c = 16 / 17: rate .002 c, betas 0 and .99^c (Karras et al., 2020, appendix B); two steps by hand."""
    c = 16 / 17
    optimizer = lazy_adam(0.002, b1=0.0, b2=0.99, every=16)
    state = optimizer.init(jnp.zeros(()))
    moments, theta = 0.0, 0.0
    params = jnp.zeros(())
    for count, gradient in enumerate((0.5, -2.0), start=1):
        updates, state = optimizer.update(jnp.array(gradient), state, params)
        params = optax.apply_updates(params, updates)
        moments = 0.99**c * moments + (1 - 0.99**c) * gradient**2
        theta -= 0.002 * c * gradient / (np.sqrt(moments / (1 - 0.99 ** (c * count))) + 1e-8)
    np.testing.assert_allclose(params, theta, rtol=1e-5)
