"""Two-player losses, terms, preparations and unrolling against compositions written out by hand."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.game import InputTransform, Player
from gan_jax.keys import named_key
from gan_jax.objectives import (
    Outcome,
    Term,
    add_terms,
    gradient_penalty,
    label_condition,
    r1,
    r2,
    unrolled,
    with_transforms,
)
from gan_jax.objectives.gan import gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import optimizer as wgan_optimizer
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.play import apply_turn
from gan_jax.schedule import Turn, turn
from tests import helpers
from tests.helpers import PRIOR, context
from tests.tiers import full


def losses(objective, name, networks=None, batch=None):
    """A player's loss and Aux at the first round."""
    game = helpers.game(objective, networks_=networks)
    players = helpers.players_of(game)
    return helpers.loss(name, game, players, batch or helpers.batch())


def test_two_player_loss_is_the_mean_of_the_score_loss():
    total, out = losses(gan(PRIOR), "critic")
    expected = np.mean(np.logaddexp(0, -out.outputs.real.score) + np.logaddexp(0, out.outputs.fake.score))
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert set(out.metrics) == {"loss"}
    chex.assert_shape([out.outputs.real.score, out.outputs.fake.score], (helpers.B,))


def test_conditions_reach_both_networks():
    """A label moves the generator's sample and the critic's score of the same x."""
    networks = {
        "critic": helpers.critic(helpers.X_DIM + helpers.CLASSES),
        "generator": helpers.generator(helpers.Z_DIM + helpers.CLASSES),
    }
    objective = gan(PRIOR, condition=label_condition)
    batch = helpers.batch()
    _, out = losses(objective, "critic", networks, batch)
    _, other = losses(objective, "critic", networks, {**batch, "y": (batch["y"] + 1) % 3})
    assert np.all(out.outputs.real.score != other.outputs.real.score)
    assert np.all(np.any(out.outputs.samples != other.outputs.samples, axis=1))
    np.testing.assert_array_equal(out.outputs.latent, other.outputs.latent)


def test_bf16_scores_are_judged_in_float32():
    """In bf16 softplus(8) - 8 = exp(-8) would be lost."""
    network = helpers.critic()

    def apply(params, model_state, x, train, key):
        return jnp.full((x.shape[0],), -8.0, jnp.bfloat16), model_state

    networks = {**helpers.networks(), "critic": dataclasses.replace(network, apply=apply)}
    total, _ = losses(non_saturating(PRIOR), "critic", networks)
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, 8 + 2 * np.log1p(np.exp(-8)), rtol=1e-6)


# --- terms --------------------------------------------------------------------------------------------------


def constant_term(value, **options):
    return Term(name="constant", player="critic", value=lambda c: jnp.float32(value), **options)


def test_a_term_adds_its_weighted_value_and_is_logged():
    base, _ = losses(gan(PRIOR), "critic")
    total, out = losses(add_terms(gan(PRIOR), constant_term(3.0, weight=0.5)), "critic")
    np.testing.assert_allclose(total, base + 1.5, rtol=1e-6)
    np.testing.assert_allclose(out.metrics["constant"], 3.0)
    np.testing.assert_allclose(out.metrics["loss"], total)


def test_a_weight_may_follow_the_round():
    objective = add_terms(gan(PRIOR), constant_term(1.0, weight=lambda step: step / 4.0))
    game = helpers.game(objective)
    players = helpers.players_of(game)
    values = [helpers.loss("critic", game, players, helpers.batch(), step)[0] for step in (0, 2)]
    np.testing.assert_allclose(values[1] - values[0], 0.5, rtol=1e-5)


def test_state_is_kept_under_the_terms_name_and_updated_on_its_players_turn():
    def count(c):
        return Outcome(0.0, c.state + 1.0)

    term = Term(name="constant", player="critic", value=count, initial_state=lambda params: jnp.zeros(()))
    game = helpers.game(add_terms(gan(PRIOR), term))
    players = helpers.players_of(game)
    assert players["critic"].objective_state == {"constant": 0.0}
    after, _ = apply_turn(turn("critic"), context(game, players, helpers.batch()))
    assert after["critic"].objective_state == {"constant": 1.0}
    after, _ = apply_turn(turn("generator"), context(game, after, helpers.batch()))
    assert after["critic"].objective_state == {"constant": 1.0}


def test_two_terms_have_separate_states():
    def value(step):
        return lambda c: Outcome(0.0, c.state + step)

    terms = [
        Term(name=name, player="critic", value=value(step), initial_state=lambda params: jnp.zeros(()))
        for name, step in (("a", 1.0), ("b", 2.0))
    ]
    game = helpers.game(add_terms(gan(PRIOR), *terms))
    after, _ = apply_turn(turn("critic"), context(game, helpers.players_of(game), helpers.batch()))
    assert after["critic"].objective_state == {"a": 1.0, "b": 2.0}


def test_a_lazy_term_keeps_its_state_between_evaluations():
    def count(c):
        return Outcome(1.0, c.state + 1.0)

    term = Term(
        name="constant", player="critic", value=count, initial_state=lambda params: jnp.zeros(()), every=2
    )
    game = helpers.game(add_terms(gan(PRIOR), term))
    players = helpers.players_of(game)
    for step, expected in [(0, 1.0), (1, 1.0), (2, 2.0)]:
        players, metrics = apply_turn(turn("critic"), context(game, players, helpers.batch(), step))
        assert players["critic"].objective_state["constant"] == expected
        assert metrics["critic/constant"] == (2.0 if step % 2 == 0 else 0.0)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            constant_term(1.0, needs_features=True),
            "needs an objective with losses of features; this one's are of scores",
        ),
        (dataclasses.replace(constant_term(1.0), player="encoder"), "added to the loss of 'encoder'"),
    ],
)
def test_a_term_that_does_not_fit_is_refused_at_once(term, message):
    with pytest.raises(ValueError, match=message):
        add_terms(gan(PRIOR), term)


def test_the_same_name_twice_is_refused():
    add_terms(gan(PRIOR), r1(1.0), r2(1.0))
    with pytest.raises(ValueError, match="already has a term named 'r1'"):
        add_terms(gan(PRIOR), r1(1.0), r1(2.0))


def test_wgan_gp_penalty_by_hand():
    """The logged penalty is that of the critic's own gradient at the logged points, by finite differences."""
    total, out = losses(wgan_gp(PRIOR, penalty=10.0), "critic")
    base, _ = losses(wgan(PRIOR), "critic")
    np.testing.assert_allclose(total, base + 10 * out.metrics["gradient_penalty"], rtol=1e-5)
    game = helpers.game(wgan_gp(PRIOR))
    params = helpers.players_of(game)["critic"].params
    w, b, last = (
        np.asarray(a, np.float64) for a in (params["hidden"]["w"], params["hidden"]["b"], params["score"])
    )
    point_key = named_key(named_key(context(game).turn_key, "term/gradient_penalty"), "point")
    e = np.asarray(jax.random.uniform(point_key, (helpers.B, 1)), np.float64)
    x = e * np.asarray(out.outputs.real.inputs[0]) + (1 - e) * np.asarray(out.outputs.fake.inputs[0])
    slope = (1 - np.tanh(x @ w + b) ** 2) * last[:, 0] @ w.T
    np.testing.assert_allclose(
        out.metrics["gradient_penalty"],
        np.mean((np.linalg.norm(slope, axis=1) - 1) ** 2),
        rtol=1e-4,
        atol=1e-6,
    )


# --- preparations -------------------------------------------------------------------------------------------


def test_real_and_fake_are_transformed_with_different_draws():
    draws = []

    def add_noise(inputs, key, step, objective_state):
        draws.append(jax.random.normal(key, inputs[0].shape))
        return (inputs[0] + draws[-1], *inputs[1:])

    noise = InputTransform(name="noise", apply=add_noise)
    _, out = losses(with_transforms(gan(PRIOR), noise, noise), "critic")
    flat = np.stack(draws).reshape(4, -1)
    assert len(np.unique(flat)) == flat.size
    np.testing.assert_allclose(
        out.outputs.real.inputs[0], helpers.batch()["x"] + draws[0] + draws[1], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        out.outputs.fake.inputs[0], out.outputs.samples + draws[2] + draws[3], rtol=1e-5, atol=1e-6
    )


def test_the_generators_gradient_runs_through_the_preparation():
    """Scaling the critic's inputs by 0 leaves the generator without a gradient."""
    zero = InputTransform(name="zero", apply=lambda inputs, *_: (0 * inputs[0],))
    game = helpers.game(with_transforms(gan(PRIOR), zero))
    players = helpers.players_of(game)
    after, _ = apply_turn(turn("generator"), context(game, players, helpers.batch()))
    chex.assert_trees_all_equal(after["generator"].params, players["generator"].params)


# --- unrolling ----------------------------------------------------------------------------------------------


def test_unrolled_zero_is_the_base():
    base = gan(PRIOR)
    assert unrolled(base, 0) is base


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "0 or more whole steps"),
        ({"steps": 1, "opponent": "encoder"}, r"names \['encoder'\]"),
    ],
)
def test_unrolled_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        unrolled(gan(PRIOR), **arguments)


@pytest.mark.parametrize(
    ("optimizer", "taken"),
    [
        (optax.sgd, True),
        (lambda lr: optax.adam(lr, eps_root=1e-8), True),
        (lambda lr: wgan_optimizer(lr, clip=0.01), False),
        (lambda lr: wgan_optimizer(lr, clip=0.01, differentiable=True), True),
        (lambda lr: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(lr)), True),
        (optax.adam, False),
        (lambda lr: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr)), False),
        (lambda lr: optax.multi_transform({"a": optax.adam(lr)}, lambda p: {"kernels": "a"}), True),
    ],
    ids=[
        "sgd",
        "adam with eps_root",
        "wgan's",
        "wgan's with a derivative",
        "clipped",
        "adam",
        "adamw in a chain",
        "one that is not known",
    ],
)
def test_unrolling_through_an_optimiser_without_a_derivative_is_refused_when_the_game_is_constructed(
    optimizer, taken
):
    build = functools.partial(helpers.game, unrolled(gan(PRIOR), 1), optimizer=optimizer)
    if taken:
        build()
    else:
        with pytest.raises(ValueError, match=r"no derivative where a gradient is zero.*eps_root=1e-8"):
            build()
    # The player who looks ahead may have any.
    objective = unrolled(gan(PRIOR), 1)
    optimizers = {"critic": optax.sgd(0.1), "generator": optimizer(0.1)}
    players = {name: Player(network, optimizers[name]) for name, network in helpers.networks().items()}
    dataclasses.replace(helpers.game(objective), players=players)


def explicit(game, base, params, steps):
    """The unrolled loss as the paper writes it: critic steps one by one, then the generator's loss."""
    players = helpers.players_of(game)
    players["generator"] = players["generator"]._replace(params=params)
    inner = dataclasses.replace(game, objective=base)
    for place in range(steps):
        key = jax.random.fold_in(named_key(context(game).turn_key, "unrolled"), place)
        players, _ = apply_turn(Turn(("critic",)), context(inner, players, helpers.batch()).with_key(key))
    return helpers.loss("generator", inner, players, helpers.batch())[0]


@pytest.mark.full
@pytest.mark.parametrize(
    ("base", "optimizer", "remat"),
    [
        (gan(PRIOR), optax.sgd, False),
        full(wgan_gp(PRIOR, penalty=1.0), lambda lr: optax.adam(lr, b1=0.5, eps_root=1e-8), True),
    ],
    ids=["gan sgd", "wgan_gp adam remat"],
)
def test_unrolled_gradient_against_finite_differences_of_the_explicit_composition(base, optimizer, remat):
    with jax.enable_x64(True):
        game = helpers.game(unrolled(base, 2, remat=remat), optimizer=optimizer, lr=0.1)
        players = helpers.players_of(game)
        params = players["generator"].params

        def loss(params):
            moved = {**players, "generator": players["generator"]._replace(params=params)}
            return helpers.loss("generator", game, moved, helpers.batch())[0]

        value, grad = jax.jit(jax.value_and_grad(loss))(params)
        written_out = jax.jit(lambda p: explicit(game, base, p, 2))
        np.testing.assert_allclose(value, written_out(params), rtol=1e-10)
        key = jax.random.key(5)
        direction = jax.tree.map(lambda p: jax.random.normal(key, p.shape, p.dtype), params)
        h = 1e-5
        ends = [written_out(optax.tree.add_scale(params, step, direction)) for step in (h, -h)]
        slope = (ends[0] - ends[1]) / (2 * h)
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), grad, direction)))
        np.testing.assert_allclose(along, slope, rtol=1e-6)


def test_unrolled_dirac_by_hand():
    """WGAN: one critic step leads psi to psi - h theta, so the generator's loss is -(psi - h theta) theta."""
    h, psi, theta = 0.3, 0.5, 2.0
    game = helpers.dirac_game(unrolled(wgan(PRIOR), 1), lr=h, schedule=(turn("generator"),))
    players = helpers.dirac_train_state(jnp.array(psi), jnp.array(theta)).players
    after, metrics = apply_turn(turn("generator"), context(game, players, {"x": jnp.zeros((2, 1))}))
    np.testing.assert_allclose(metrics["generator/loss"], -(psi - h * theta) * theta, rtol=1e-6)
    np.testing.assert_allclose(after["generator"].params, theta + h * (psi - 2 * h * theta), rtol=1e-6)
    np.testing.assert_array_equal(after["critic"].params, psi)


def test_unrolling_does_not_change_the_critics_turn():
    base, ahead = gan(PRIOR), unrolled(gan(PRIOR), 3)
    assert losses(base, "critic")[0] == losses(ahead, "critic")[0]


@pytest.mark.full
def test_terms_inside_and_outside_of_unrolling():
    """A penalty inside is played by the looked-ahead critic, one outside is not: the generator's losses differ."""
    inside = unrolled(add_terms(gan(PRIOR), gradient_penalty(5.0)), 1)
    outside = add_terms(unrolled(gan(PRIOR), 1), gradient_penalty(5.0))
    a, b = losses(inside, "generator")[0], losses(outside, "generator")[0]
    assert abs(a - b) > 1e-4
    np.testing.assert_allclose(
        losses(inside, "critic")[0], losses(outside, "critic")[0], rtol=1e-6, atol=1e-6
    )
