"""Microbatches and rematerialisation: the batch's own gradients, with less memory."""

import functools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax import field as fields
from gan_jax.distributed.layout import make_layout
from gan_jax.functional.packing import packing
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.network import Network, rematerialized
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import two_player, unrolled, with_transforms
from gan_jax.objectives.began import began
from gan_jax.objectives.gan import gan
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.schedule import alternating, turn
from gan_jax.training.step import init_state, make_train_step
from tests import helpers, programs
from tests.helpers import PRIOR, context
from tests.objectives import cases
from tests.tiers import full

BOTH = turn("critic", "generator")


def evaluated(objective, field, networks_=None, batch=None):
    game = helpers.game(objective, networks_=networks_)
    return jax.jit(lambda p, b: field(BOTH, context(game, p, b)))(
        helpers.players_of(game), batch or helpers.batch(n=12)
    )


@pytest.mark.full
@pytest.mark.parametrize("objective", [gan(PRIOR), full(zero_centred(PRIOR))], ids=["gan", "zero_centred"])
def test_microbatches_give_the_field_of_the_batch(objective):
    """Gradients, statistics and metrics of 3 x 4 examples are those of 12; scores and latents stand in order."""
    whole, whole_aux = evaluated(objective, fields.gradient_field)
    parts, parts_aux = evaluated(objective, fields.accumulated(3))
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-6)
    for name in BOTH.players:
        for what in ("model_state", "metrics", "outputs"):
            chex.assert_trees_all_close(
                getattr(parts_aux[name], what), getattr(whole_aux[name], what), rtol=1e-5, atol=1e-6
            )
        np.testing.assert_array_equal(parts_aux[name].outputs.latent, whole_aux[name].outputs.latent)


def test_gradients_in_bfloat16_are_summed_in_float32():
    """Of 512 gradients that are alike a sum in bfloat16 stops growing at the 256th."""
    game = helpers.game(gan(PRIOR))
    players = {
        name: player._replace(params=jax.tree.map(lambda p: p.astype(jnp.bfloat16), player.params))
        for name, player in helpers.players_of(game).items()
    }
    batch = {"x": jnp.broadcast_to(helpers.batch(n=1)["x"], (512, *helpers.batch(n=1)["x"].shape[1:]))}
    field = fields.accumulated(512)
    grads, _ = jax.jit(lambda p, b: field(turn("critic"), context(game, p, b)))(players, batch)
    exact = jax.tree.map(lambda p: p.astype(jnp.float32), players)
    expected, _ = jax.jit(lambda p, b: fields.gradient_field(turn("critic"), context(game, p, b)))(
        exact, batch
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}
    for leaf, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(leaf, np.float32), other, rtol=0.05, atol=0.02)


@pytest.mark.full
def test_corrections_of_the_accumulated_field_are_those_of_the_plain_one():
    """Consensus takes the Jacobian of a mean: the mean of the Jacobians."""
    whole, _ = evaluated(gan(PRIOR), fields.consensus(0.5))
    parts, _ = evaluated(gan(PRIOR), fields.consensus(0.5, fields.accumulated(4)))
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-6)


def noisy_networks():
    plain = helpers.critic()

    def apply(params, model_state, x, train, key):
        return plain.apply(params, model_state, x + 0.1 * jax.random.normal(key, x.shape), train=train)

    return {**helpers.networks(), "critic": Network(init=plain.init, apply=apply)}


def coupled_networks():
    return {**helpers.networks(), "critic": helpers.critic(couples_batch=True)}


def packed_networks():
    return {**helpers.networks(), "critic": helpers.critic(3 * helpers.X_DIM)}


REFUSED = {
    "whole batch": (relativistic(PRIOR), None, "is not a mean over independent examples"),
    "unrolled": (unrolled(gan(PRIOR), 1), None, "is not a mean over independent examples"),
    "packs": (
        with_transforms(gan(PRIOR), packing(3)),
        packed_networks,
        "is not a mean over independent examples",
    ),
    "a hand-written loss of the whole batch": (
        two_player(
            critic=lambda r, f: -jnp.square(jnp.mean(r) - jnp.mean(f)),
            generator=lambda r, f: -f,
            prior=PRIOR,
        ),
        None,
        "is not a mean over independent examples",
    ),
    "batch norm": (gan(PRIOR), coupled_networks, r"\['critic'\] couple their batch"),
    "memory": (began(PRIOR), cases.autoencoders, r"\['critic'\] keep objective state"),
    "a penalty's points": (wgan_gp(PRIOR), None, "loss of 'critic'.*draws noise"),
    "noise in a network": (gan(PRIOR), noisy_networks, "loss of 'critic'.*draws noise"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_no_mean_over_microbatches_is_refused_unless_asked_for(why):
    objective, networks, said = REFUSED[why]
    made = networks and networks()
    with pytest.raises(ValueError, match=f"{said}.*approximate=True"):
        evaluated(objective, fields.accumulated(4), made)
    grads, _ = jax.eval_shape(lambda: evaluated(objective, fields.accumulated(4, approximate=True), made))
    assert set(grads) == set(BOTH.players)


def test_a_wrong_game_is_refused_when_it_is_constructed():
    with pytest.raises(ValueError, match=r"\['critic'\] keep objective state"):
        helpers.game(began(PRIOR), networks_=cases.autoencoders(), field=fields.accumulated(2))
    with pytest.raises(ValueError, match="the field is not the plain gradient"):
        helpers.game(gan(PRIOR), field=fields.accumulated(2, field=fields.consensus(0.1)))


@pytest.mark.full
def test_the_approximation_is_the_mean_of_single_fields_with_separate_noise():
    objective, batch = wgan_gp(PRIOR), helpers.batch(n=12)
    found, _ = evaluated(objective, fields.accumulated(3, approximate=True), batch=batch)
    game = helpers.game(objective)
    each = [
        fields.gradient_field(
            BOTH,
            context(game, batch_=jax.tree.map(operator.itemgetter(slice(i, None, 3)), batch)).with_key(
                jax.random.fold_in(context(game).turn_key, i)
            ),
        )[0]
        for i in range(3)
    ]
    expected = jax.tree.map(lambda *g: sum(g) / 3, *each)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def test_numbers_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match="1 or more microbatches, got 0"):
        fields.accumulated(0)
    with pytest.raises(ValueError, match=r"batch\['x'\] of 12 examples.*5 microbatches"):
        evaluated(gan(PRIOR), fields.accumulated(5))
    assert fields.accumulated(1) is fields.gradient_field


def test_on_eight_devices_a_microbatch_is_shared_and_costs_no_other_collective():
    """The batch's split crosses no device: no gather, no permutation, nothing of a microbatch's whole size."""
    game = helpers.game(gan(PRIOR), field=fields.accumulated(3))
    batch = jax.eval_shape(lambda: helpers.batch(shape=(1,), n=8 * 3 * 13))
    text = programs.compiled(game, (turn("critic"),), 8, batch).as_text()
    assert set(programs.collectives(text)) == {"all-reduce"}
    assert not programs.has_dimension(text, 8 * 13)
    assert not programs.has_dimension(text, 8 * 3 * 13)


def deep_game(wrap=lambda network: network, dtype=jnp.float32, widths=6 * (64,)):
    networks = {
        "critic": from_linen(MLPCritic(widths=widths, dtype=dtype), jnp.zeros((2, 2))),
        "generator": from_linen(MLPGenerator(output_shape=(2,), widths=(8,), dtype=dtype), jnp.zeros((2, 4))),
    }
    return Game(
        players={name: Player(wrap(network), optax.sgd(0.1)) for name, network in networks.items()},
        objective=gan(gaussian(4)),
        schedule=alternating(),
    )


def critic_loss_at(game, players, batch, params):
    moved = {**players, "critic": players["critic"]._replace(params=params)}
    return game.objective.players["critic"].loss(context(game, moved, batch))[0]


def residuals(loss, params):
    """What the backward pass of a loss keeps."""
    return jax.vjp(loss, params)[1]


@pytest.mark.full
def test_rematerialised_networks_have_the_same_gradients_and_keep_nothing_but_their_inputs():
    """What the critic's loss keeps for its backward pass: no activations, 6 layers of 64 x 512 and more."""
    batch = {"x": jax.random.normal(jax.random.key(0), (512, 2))}
    found = {}
    for name, game in {"kept": deep_game(), "again": deep_game(rematerialized)}.items():
        players = helpers.players_of(game)
        loss = functools.partial(critic_loss_at, game, players, batch)
        params = players["critic"].params
        kept = jax.eval_shape(functools.partial(residuals, loss), params)
        found[name] = jax.jit(jax.grad(loss))(params), sum(x.size for x in jax.tree.leaves(kept))
    chex.assert_trees_all_close(found["kept"][0], found["again"][0], rtol=1e-5, atol=1e-6)
    assert found["kept"][1] - found["again"][1] > 6 * 64 * 512


@pytest.mark.slow
def test_bf16_computes_and_f32_stays():
    """Parameters, statistics, optimiser state, losses and gradients are f32; eight devices agree within bf16."""
    game = deep_game(dtype=jnp.bfloat16, widths=(16, 16))
    batch = {"x": jax.random.normal(jax.random.key(0), (2, 64, 2))}
    step = make_train_step(game)
    assert "bf16" in str(jax.make_jaxpr(step)(init_state(game, jax.random.key(1)), batch))
    players = {}
    for devices in (1, 8):
        layout = make_layout("jit", jax.devices()[:devices])
        with jax.set_mesh(layout.mesh):
            state, metrics = jax.jit(step)(layout.place(init_state(game, jax.random.key(1))), batch)
        dtypes = {x.dtype for x in jax.tree.leaves((state.players, metrics))}
        assert dtypes <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
        players[devices] = jax.device_get(state.players)
    chex.assert_trees_all_close(players[1], players[8], atol=1e-3)


def test_a_loss_without_a_prior_accumulates():
    """Where the latents are part of the batch, they are divided with it."""

    def loss(players, batch):
        return batch["x"] * players["x"].params

    game = Game(
        players={"x": Player(helpers.scalar_network(None), optax.sgd(1.0))},
        objective=helpers.plain_objective({"x": loss}),
        schedule=(turn("x"),),
        field=fields.accumulated(2),
    )
    state = init_state(game, jax.random.key(0))
    x = jnp.arange(6.0)
    grads, out = game.field(turn("x"), context(game, state.players, {"x": x}))
    assert float(grads["x"]) == 2.5
    np.testing.assert_array_equal(out["x"].outputs.losses, 0 * x)
