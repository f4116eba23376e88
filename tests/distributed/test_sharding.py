"""Eight simulated devices give the single device's result, at one all-reduce a turn and 1/8 of its FLOPs."""

import dataclasses
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.data import from_arrays, from_toy, toy
from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.mesh import LayoutError, check_divides
from gan_jax.field import gradient_field
from gan_jax.functional.priors import gaussian
from gan_jax.game import Field, Game, Player, TurnContext
from gan_jax.networks import DCGANCritic, DCGANGenerator, MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.play import apply_turn
from gan_jax.schedule import alternating, turn
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from tests import helpers, programs
from tests.tiers import full, slow

DEVICES = 8
LATENT = 4


def points_game(objective, norm="batch", **options):
    generator = MLPGenerator(output_shape=(2,), widths=(16, 16), norm=norm)
    return Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=(16, 16)), jnp.zeros((2, 2))), optax.sgd(0.05)),
            "generator": Player(from_linen(generator, jnp.zeros((2, LATENT))), optax.sgd(0.05)),
        },
        objective=objective,
        schedule=options.pop("schedule", alternating(2)),
        **options,
    )


def points():
    x = np.random.default_rng(0).integers(0, 256, (200, 2), dtype=np.uint8)
    return from_arrays({"x": x}, batch_size=32, seed=0)


def play(game, source, parallelism, devices, rounds=5):
    layout = make_layout(parallelism, jax.devices()[:devices])
    run = layout.compile(game, source)
    state = layout.place(init_state(game, jax.random.key(0)))
    turns = len(game.schedule)
    host_batches = stack_rounds(source, 0, turns, rounds, rounds)
    return run(state, layout.place(source.device_data), host_batches, rounds)


@pytest.mark.parametrize("source", [full(points()), slow(from_toy(toy.ring(), 32))], ids=["arrays", "drawn"])
def test_eight_devices_equal_one_under_jit_with_batch_norm_and_penalty(source):
    game = points_game(wgan_gp(gaussian(LATENT)))
    single_device, metrics_one = play(game, source, "jit", 1)
    eight, metrics_eight = play(game, source, "jit", DEVICES)
    chex.assert_trees_all_close(
        jax.device_get(single_device.players), jax.device_get(eight.players), atol=1e-6, rtol=1e-5
    )
    chex.assert_trees_all_close(jax.device_get(metrics_one), jax.device_get(metrics_eight), atol=1e-5)
    assert int(eight.cursor) == 15


@pytest.mark.slow
def test_eight_devices_equal_one_on_convolutions():
    x = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    source = from_arrays({"x": x}, batch_size=16, seed=0)
    game = Game(
        players={
            "critic": Player(
                from_linen(DCGANCritic(width=4, norm="none"), jnp.zeros((2, 8, 8, 1))), optax.sgd(0.02)
            ),
            "generator": Player(
                from_linen(DCGANGenerator(size=8, channels=1, width=4), jnp.zeros((2, LATENT))),
                optax.sgd(0.02),
            ),
        },
        objective=wgan_gp(gaussian(LATENT)),
        schedule=alternating(1),
    )
    single_device, _ = play(game, source, "jit", 1, rounds=2)
    eight, _ = play(game, source, "jit", DEVICES, rounds=2)
    chex.assert_trees_all_close(
        jax.device_get(single_device.players), jax.device_get(eight.players), atol=1e-6, rtol=1e-5
    )


@pytest.mark.full
def test_batch_normalisation_by_groups_of_a_device_waits_for_no_other():
    """Each turn has one all-reduce then, of its gradients and of what the running averages move by."""
    batch = {"x": jax.ShapeDtypeStruct((1, 32, 8, 8, 1), jnp.float32)}
    counts = {}
    for norm in ("batch", f"batch:{DEVICES}"):
        networks = {
            "critic": from_linen(DCGANCritic(width=4, norm=norm), jnp.zeros((DEVICES, 8, 8, 1))),
            "generator": from_linen(
                DCGANGenerator(size=8, channels=1, width=4, norm=norm), jnp.zeros((DEVICES, LATENT))
            ),
        }
        game = Game(
            players={name: Player(network, optax.sgd(0.02)) for name, network in networks.items()},
            objective=non_saturating(gaussian(LATENT)),
            schedule=alternating(1),
        )
        program = programs.compiled(game, (turn("critic"),), DEVICES, batch)
        counts[norm] = programs.collectives(program.as_text())
    assert counts["batch:8"] == {"all-reduce": 1}
    assert counts["batch"]["all-reduce"] > 4


def mean_of_replicas(played, context):
    """The mean of the fields of the shards of four examples, each with its key."""
    fields = []
    for r in range(DEVICES):
        shard = jax.tree.map(operator.itemgetter(slice(4 * r, 4 * r + 4)), context.batch)
        key = jax.random.fold_in(context.turn_key, r)
        fields.append(gradient_field(played, dataclasses.replace(context, batch=shard, turn_key=key)))
    grads = jax.tree.map(lambda *g: sum(g) / DEVICES, *[f[0] for f in fields])
    model_state = jax.tree.map(
        lambda *s: sum(s) / DEVICES, *[{n: a.model_state for n, a in f[1].items()} for f in fields]
    )
    return grads, {n: a._replace(model_state=model_state[n]) for n, a in fields[0][1].items()}


@pytest.mark.slow
def test_pmap_is_the_mean_of_the_replicas_fields():
    """A round by hand: each replica has its shard and its key; gradients and statistics are averaged."""
    game, source = points_game(wgan_gp(gaussian(LATENT)), schedule=alternating(1)), points()
    state, _ = play(game, source, "pmap", DEVICES, rounds=1)

    host_batches = stack_rounds(source, 0, 2, 1, 1)
    players = init_state(game, jax.random.key(0)).players
    round_key = jax.random.fold_in(jax.random.key(0), 0)
    for place, played in enumerate(game.schedule):
        host_batch = jax.tree.map(operator.itemgetter((0, place)), host_batches)
        batch = source.get_batch(source.device_data, host_batch)
        by_hand = dataclasses.replace(game, field=Field(mean_of_replicas))
        key = jax.random.fold_in(round_key, place)
        players, _ = apply_turn(played, TurnContext(by_hand, players, batch, jnp.int32(0), key))
    chex.assert_trees_all_close(jax.device_get(state.players), jax.device_get(players), atol=1e-6, rtol=1e-5)


@pytest.mark.full
def test_pmap_plays_what_is_drawn_on_the_device():
    state, metrics = play(points_game(non_saturating(gaussian(LATENT))), from_toy(toy.ring(), 32), "pmap", 8)
    assert int(state.step) == 5
    chex.assert_tree_all_finite(jax.device_get((state.players, metrics)))


def compiled(game, player, devices):
    """The program of one turn of `player` on `devices`."""
    batch = {"x": jax.ShapeDtypeStruct((1, 64, 2), jnp.float32)}
    return programs.compiled(game, (turn(player),), devices, batch)


@pytest.mark.full
@pytest.mark.parametrize("objective", [non_saturating, wgan_gp])
@pytest.mark.parametrize("player", ["critic", "generator"])
def test_a_turn_costs_one_all_reduce_and_an_eighth_of_the_flops(objective, player):
    game = points_game(objective(gaussian(LATENT)), norm="none")
    eight = compiled(game, player, DEVICES)
    assert programs.collectives(eight.as_text()) == {"all-reduce": 1}
    single_device = compiled(game, player, 1).cost_analysis()["flops"]
    # What is not 1/8 is the optimiser's and the reduction's work on the parameters, the same on every device.
    parameters = sum(x.size for x in jax.tree.leaves(init_state(game, jax.random.key(0)).players))
    assert (
        single_device / DEVICES * 0.9
        < eight.cost_analysis()["flops"]
        < single_device / DEVICES + 20 * parameters
    )
    assert 20 * parameters < single_device / 4


@pytest.mark.full
def test_a_global_batch_norm_adds_one_reduction_forward_and_one_where_it_is_differentiated():
    """Two batch norms in the generator: +2 in the critic's turn (not differentiated), +4 in its own."""
    game = points_game(non_saturating(gaussian(LATENT)), norm="batch")
    counts = {
        player: programs.collectives(compiled(game, player, DEVICES).as_text())["all-reduce"]
        for player in ("critic", "generator")
    }
    assert counts == {"critic": 1 + 2, "generator": 1 + 2 + 2}


def test_a_batch_that_the_devices_do_not_divide_is_named():
    with pytest.raises(LayoutError, match=r"30 examples.*8 devices"):
        check_divides(30, 8)
    with pytest.raises(LayoutError, match=r"30 examples.*8 devices"):
        make_layout("jit").compile(points_game(non_saturating(gaussian(LATENT))), from_toy(toy.ring(), 30))


def test_unknown_parallelism_is_named():
    with pytest.raises(LayoutError, match=r"'jit', 'pmap', 'fsdp'.*'tpu'"):
        make_layout("tpu")


@pytest.mark.full
@pytest.mark.parametrize("parallelism", ["jit", full("pmap")])
def test_rounds_are_traced_once_and_transfer_nothing_implicitly(parallelism):
    traces = 0
    base = non_saturating(gaussian(LATENT))

    def counted(context, output):
        nonlocal traces
        traces += 1
        return output

    objective = helpers.changed_loss(base, "critic", counted)
    game, source = points_game(objective, schedule=alternating(1)), points()
    layout = make_layout(parallelism)
    run = layout.compile(game, source)
    state, device_data = layout.place(init_state(game, jax.random.key(0))), layout.place(source.device_data)
    state, _ = run(state, device_data, stack_rounds(source, 0, 2, 3, 4), 3)
    first = traces
    with jax.transfer_guard("disallow"):
        before = state
        for rounds in (1, 4, 2):
            state, _ = run(state, device_data, stack_rounds(source, 0, 2, rounds, 4), rounds)
    assert traces == first
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.players)), "the state is donated"
