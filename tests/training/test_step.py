"""A round: the same turns whether folded or written out, fresh draws for every use, averages by hand."""

import dataclasses
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.evaluation.sampling import generator_variables
from gan_jax.game import Player, TurnContext
from gan_jax.network import Network
from gan_jax.networks import MLPGenerator, from_linen
from gan_jax.objectives import add_terms, r1, unrolled
from gan_jax.objectives.gan import gan
from gan_jax.optim import ema_half_life
from gan_jax.play import apply_turn
from gan_jax.schedule import alternating, turn
from gan_jax.training.step import _average, fold, init_state, make_train_step
from tests import helpers
from tests.helpers import PRIOR
from tests.tiers import full

C, G = turn("critic"), turn("generator")
REUSE = turn("generator", fresh=False)


def played_out(game, state, batches):
    """The round turn by turn, without folding: the explicit loop that `play_round` promises to equal."""
    key = jax.random.fold_in(state.key, state.step)
    players, index = state.players, -1
    for place, played in enumerate(game.schedule):
        index += played.fresh
        batch = jax.tree.map(operator.itemgetter(index), batches)
        turn_context = TurnContext(game, players, batch, state.step, jax.random.fold_in(key, place))
        players, _ = apply_turn(played, turn_context)
    return players


@pytest.mark.full
@pytest.mark.parametrize(
    "schedule",
    [3 * (C,) + (G,), full(2 * (C, REUSE) + (G,)), full((G, *(2 * (C, C, G))))],
    ids=["3C G", "2(C G') G", "G 2(CCG)"],
)
def test_folded_equals_written_out(schedule):
    game = helpers.game(gan(PRIOR), schedule=schedule)
    state = init_state(game, jax.random.key(1))._replace(step=jnp.asarray(5, jnp.int32))
    turns = sum(t.fresh for t in schedule)
    batches = helpers.batch(shape=(turns,))
    after, _ = jax.jit(make_train_step(game))(state, batches)
    expected = jax.jit(lambda s, b: played_out(game, s, b))(state, batches)
    chex.assert_trees_all_close(after.players, expected, rtol=1e-5, atol=1e-6)
    assert int(after.step) == 6
    assert int(after.cursor) == turns
    np.testing.assert_array_equal(jax.random.key_data(after.key), jax.random.key_data(state.key))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ((C, G), [(1, (C,)), (1, (G,))]),
        (5 * (C,) + (G,), [(5, (C,)), (1, (G,))]),
        (20 * (C, G), [(20, (C, G))]),
        ((C, *(3 * (G,)), C), [(1, (C,)), (3, (G,)), (1, (C,))]),
        # A turn that reuses a batch is another turn.
        ((G, REUSE), [(1, (G,)), (1, (REUSE,))]),
    ],
)
def test_fold(schedule, expected):
    assert fold(schedule) == expected


@pytest.mark.full
@pytest.mark.parametrize("repeats", [(50, 1), (1, 50)])
def test_long_ratios_compile_to_loops(repeats):
    """50 turns are one scan: the program is about as long as for 2, not 25 times as long."""

    def lines(n_critic, n_generator):
        game = helpers.game(gan(PRIOR), schedule=alternating(n_critic, n_generator))
        state = jax.eval_shape(lambda k: init_state(game, k), jax.random.key(0))
        batches = helpers.batch(shape=(n_critic + n_generator,))
        return len(str(jax.make_jaxpr(make_train_step(game))(state, batches)).splitlines())

    short = tuple(min(n, 2) for n in repeats)
    assert lines(*repeats) < 1.1 * lines(*short)


def test_fresh_false_plays_on_the_preceding_batch():
    """(C, G') consumes one batch, and equals (C, G) fed that batch twice."""
    reuse = helpers.game(gan(PRIOR), schedule=(C, REUSE))
    twice = helpers.game(gan(PRIOR), schedule=(C, G))
    batches = helpers.batch()
    state = init_state(reuse, jax.random.key(0))
    a, _ = make_train_step(reuse)(state, batches)
    b, _ = make_train_step(twice)(state, jax.tree.map(lambda x: jnp.stack([x, x]), batches))
    chex.assert_trees_all_close(a.players, b.players, rtol=1e-6, atol=1e-6)
    assert (int(a.cursor), int(b.cursor)) == (1, 2)


def test_wrong_number_of_batches_is_named():
    step = make_train_step(helpers.game(gan(PRIOR)))
    state = init_state(helpers.game(gan(PRIOR)), jax.random.key(0))
    with pytest.raises(ValueError, match=r"T = 2 batches.*\['x'\] of shape \[2, B, ...\], got \(3, 8, 2\)"):
        step(state, {"x": jnp.zeros((3, 8, 2))})


def latents(state, batches, game):
    """Every latent drawn in a round, turn by turn."""

    def drawn(played):
        name = played.turn.players[0]
        return {f"{name}/latent": played.losses[name].outputs.latent}

    # One metric a turn: the schedule has each player once.
    _, metrics = make_train_step(game, diagnostics=[drawn])(state, batches)
    return [np.asarray(m) for name, m in metrics.items() if name.endswith("latent")]


def test_no_two_turns_or_rounds_draw_the_same_latent():
    game = helpers.game(gan(PRIOR))
    state = init_state(game, jax.random.key(0))
    batches = helpers.batch(shape=(2,))
    seen = []
    for step in range(3):
        seen += latents(state._replace(step=jnp.asarray(step, jnp.int32)), batches, game)
    rows = np.concatenate(seen)
    assert len(np.unique(rows, axis=0)) == len(rows) == 3 * 2 * helpers.B


def test_players_of_one_turn_share_their_latent():
    game = helpers.game(gan(PRIOR), schedule=(turn("critic", "generator"),))
    seen = {}

    def drawn(played):
        seen.update({name: output.outputs.latent for name, output in played.losses.items()})
        return {}

    make_train_step(game, diagnostics=[drawn])(init_state(game, jax.random.key(0)), helpers.batch())
    np.testing.assert_array_equal(seen["critic"], seen["generator"])


def keys_of_a_round(objective, schedule, rounds=1):
    """The key of every network call of some rounds, noted as the compiled step runs."""
    log = []

    def noting(network):
        def apply(*args, key, **kwargs):
            jax.debug.callback(lambda k: log.append(tuple(k.tolist())), jax.random.key_data(key))
            return network.apply(*args, key=key, **kwargs)

        return dataclasses.replace(network, apply=apply)

    networks = {name: noting(network) for name, network in helpers.networks().items()}
    game = helpers.game(objective, networks_=networks, schedule=schedule)
    state = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game))
    for _ in range(rounds):
        shape = () if len(schedule) == 1 else (len(schedule),)
        state, _ = step(state, helpers.batch(shape=shape))
    jax.block_until_ready(state)
    jax.effects_barrier()
    return log


@pytest.mark.full
def test_no_network_call_of_two_rounds_repeats_a_key():
    """Real, fake and the penalty's closure, turns and rounds: every call has its own key.

    The players of a turn see one common fake sample, so the generator's key, drawn once a turn, is the only one
    that may be used by both; here each turn has one player."""
    log = keys_of_a_round(add_terms(gan(PRIOR), r1(1.0)), (C, G), rounds=2)
    # A turn: G once, D on real and fake; the critic's also once in the penalty's closure.
    assert len(log) == 2 * (4 + 3)
    assert len(set(log)) == len(log)


@pytest.mark.full
def test_unrolled_steps_have_separate_keys():
    log = keys_of_a_round(unrolled(gan(PRIOR), 2), (G,))
    # Two critic steps of three calls, then the generator's own three.
    assert len(log) == len(set(log)) == 9


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_an_average_of_narrow_parameters_moves(dtype):
    """A decay of .999 moves an average from 0 to 1 by .001 a round, less than bfloat16 represents beside .3."""
    player = Player(
        Network(
            init=lambda key: ({"w": jnp.zeros(2, dtype), "count": jnp.zeros((), jnp.int32)}, {}),
            apply=lambda params, state, z, train, key: (z * params["w"], state),
        ),
        optax.sgd(0.1),
        ema=lambda step: 0.999,
    )
    game = helpers.game(gan(PRIOR))
    game = dataclasses.replace(game, players={**game.players, "generator": player})
    state = init_state(game, jax.random.key(0))
    ones = {"w": jnp.ones(2, dtype), "count": jnp.array(7)}
    moved = {**state.players, "generator": state.players["generator"]._replace(params=ones)}

    def step(average, _):
        return _average(game, state._replace(ema=average), moved), None

    after, _ = jax.lax.scan(step, _average(game, state, moved), None, length=999)
    params, _ = after["generator"]
    np.testing.assert_allclose(params["w"], 1 - 0.999**1000, rtol=1e-4)
    assert int(params["count"]) == 7
    drawn, _ = generator_variables(state._replace(players=moved, ema=after))
    assert drawn["w"].dtype == dtype


def test_ema_by_hand():
    """a <- d a + (1 - d) p after every round, from a = p at the start.
    A number is warmed up, d_t = min(d, (1 + t) / (10 + t)) = 1/10, 2/11, 1/4; a function of the round is taken as
    it is: 1 - 1 / (t + 2) is the plain mean.
    is: 1 - 1 / (t + 2) is the plain mean.
    """
    game = helpers.game(
        gan(PRIOR),
        lr=1.0,
        ema={"generator": 0.2, "critic": lambda step: 1 - 1 / (step + 2.0)},
    )
    state = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game))
    history = [state.players]
    for seed in range(3):
        state, _ = step(state, helpers.batch(seed, shape=(2,)))
        history.append(state.players)
    p0, p1, p2, p3 = [np.asarray(p["generator"].params["sample"]) for p in history]
    first = 0.1 * p0 + 0.9 * p1
    second = 2 / 11 * first + 9 / 11 * p2
    params, model_state = state.ema["generator"]
    np.testing.assert_allclose(params["sample"], 0.2 * second + 0.8 * p3, rtol=1e-5, atol=1e-6)
    # What the network does not call a running statistic is its own.
    assert model_state["calls"] == history[-1]["generator"].model_state["calls"]
    mean = np.mean([p["critic"].params["score"] for p in history], axis=0)
    np.testing.assert_allclose(state.ema["critic"][0]["score"], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["spectral", "batch", "batch+spectral"])
@pytest.mark.full
def test_the_average_of_a_frozen_generator_is_the_generator(norm):
    """With SGD of rate 0 nothing moves but power iteration and running statistics.

    Unit vectors stay unit vectors, and after 60 rounds the average's samples are those of the network itself.
    """
    module = MLPGenerator(output_shape=(2,), widths=(16, 16), norm=norm)
    generator = from_linen(module, jnp.zeros((2, helpers.Z_DIM)))
    game = helpers.game(
        gan(PRIOR),
        networks_={"critic": helpers.critic(), "generator": generator},
        lr=0.0,
        ema={"generator": 0.9},
    )
    state = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game))
    for seed in range(60):
        state, _ = step(state, helpers.batch(seed, shape=(2,)))
    player, average = state.players["generator"], state.ema["generator"]
    for u in jax.tree.leaves(average[1].get("spectral", {})):
        np.testing.assert_allclose(jnp.linalg.norm(u), 1.0, rtol=1e-5)
    z = jax.random.normal(jax.random.key(5), (256, helpers.Z_DIM))
    samples = [
        np.std(generator.apply(params, model_state, z, train=False)[0], axis=0)
        for params, model_state in ((player.params, player.model_state), average)
    ]
    # Running statistics of batches of 8 differ from their average by some percent.
    np.testing.assert_allclose(samples[0], samples[1], rtol=0.05 if norm == "spectral" else 0.2)


def test_half_lives_in_images():
    """After 1,000 images at a half-life of 1,000 a weight has halved; the ramp bounds it by the images seen."""
    decay = ema_half_life(1000, 50, ramp=None)
    np.testing.assert_allclose(np.prod([float(decay(jnp.array(t))) for t in range(20)]), 0.5, rtol=1e-5)
    ramped = ema_half_life(1e9, 50, ramp=0.1)
    np.testing.assert_allclose(ramped(jnp.array(40)), 0.5 ** (50 / (0.1 * 40 * 50)), rtol=1e-5)
    with pytest.raises(ValueError, match="more than 0 images, got 0"):
        ema_half_life(0, 50)


@pytest.mark.full
def test_the_state_can_be_donated():
    """No two leaves are one buffer, or donation is an error."""
    game = helpers.game(gan(PRIOR), ema={"generator": 0.9})
    state = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game), donate_argnums=0)
    for seed in range(2):
        state, _ = step(state, helpers.batch(seed, shape=(2,)))
    assert int(state.step) == 2


@pytest.mark.full
def test_metrics_are_means_over_the_turns_that_report_them():
    """Three critic turns at learning rate 0 see three batches: the reported loss is the mean of theirs."""
    game = helpers.game(gan(PRIOR), lr=0.0, schedule=3 * (C,) + (G,))
    state = init_state(game, jax.random.key(0))
    batches = helpers.batch(shape=(4,))
    _, metrics = make_train_step(game)(state, batches)
    key = jax.random.fold_in(state.key, 0)
    losses = []
    for place in range(3):
        batch = jax.tree.map(operator.itemgetter(place), batches)
        turn_context = TurnContext(game, state.players, batch, state.step, jax.random.fold_in(key, place))
        losses.append(apply_turn(C, turn_context)[1]["critic/loss"])
    np.testing.assert_allclose(metrics["critic/loss"], np.mean(losses), rtol=1e-6, atol=1e-6)


@pytest.mark.full
def test_two_time_scales_are_two_optimisers():
    """SGD with rates 0.3 and 0.1: the first step is three times as long for the critic's gradient."""
    base = helpers.game(gan(PRIOR), schedule=(turn("critic", "generator"),))
    rates = {"critic": 0.3, "generator": 0.1}
    players = {
        name: dataclasses.replace(player, optimizer=optax.sgd(rates[name]))
        for name, player in base.players.items()
    }
    scaled = dataclasses.replace(base, players=players)
    state = init_state(base, jax.random.key(0))
    batches = helpers.batch()

    def steps(game):
        after, _ = make_train_step(game)(state, batches)
        return jax.tree.map(
            lambda a, b: a - b,
            {n: p.params for n, p in after.players.items()},
            {n: p.params for n, p in state.players.items()},
        )

    one, two = steps(base), steps(scaled)
    chex.assert_trees_all_close(
        two["critic"], jax.tree.map(lambda x: 3 * x, one["critic"]), rtol=1e-3, atol=1e-6
    )
    chex.assert_trees_all_close(two["generator"], one["generator"], rtol=1e-5, atol=1e-7)


@pytest.mark.full
def test_lazy_terms_run_every_so_many_rounds_with_their_scale():
    """Every 3 rounds a penalty counts three times, and not at all in between."""
    game = helpers.game(add_terms(gan(PRIOR), r1(2.0, every=3)), schedule=(C,), lr=0.0)
    always = helpers.game(add_terms(gan(PRIOR), r1(2.0)), schedule=(C,), lr=0.0)
    state = init_state(game, jax.random.key(0))
    batches = helpers.batch()
    lazy, plain = jax.jit(make_train_step(game)), jax.jit(make_train_step(always))
    for step in range(5):
        now = state._replace(step=jnp.asarray(step, jnp.int32))
        _, a = lazy(now, batches)
        _, b = plain(now, batches)
        share = 3.0 if step % 3 == 0 else 0.0
        np.testing.assert_allclose(a["critic/r1"], share * b["critic/r1"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            a["critic/loss"] - 2 * a["critic/r1"], b["critic/loss"] - 2 * b["critic/r1"], rtol=1e-4, atol=1e-6
        )


@pytest.mark.full
def test_weakly_typed_parameters_compile_once():
    """`jnp.full(3, 0.1)` is weakly typed; after a step it no longer is, which used to be a second trace."""
    game = helpers.game(gan(PRIOR))
    weak = dataclasses.replace(
        game.players["critic"].network,
        init=lambda key: (
            {"hidden": {"w": jnp.full((2, 4), 0.1), "b": jnp.full(4, 0.1)}, "score": jnp.ones((4, 1))},
            {"calls": 0.0},
        ),
    )
    critic = dataclasses.replace(game.players["critic"], network=weak)
    game = dataclasses.replace(game, players={**game.players, "critic": critic})
    step = jax.jit(chex.assert_max_traces(make_train_step(game), n=1))
    state = init_state(game, jax.random.key(0))
    for seed in range(2):
        state, _ = step(state, helpers.batch(seed, shape=(2,)))
