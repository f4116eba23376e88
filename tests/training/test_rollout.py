"""Many rounds per dispatch: the same run wherever it is cut."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.data.source import Source
from gan_jax.evaluation.sampling import sample
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.runs.notebook import rollout
from gan_jax.state import with_player
from gan_jax.training.rollout import rollout_program, stack_rounds
from gan_jax.training.step import init_state, make_train_step, play_round
from tests import helpers
from tests.helpers import PRIOR

DATA = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)


def host_batches(cursor, count):
    """The batch at cursor c takes the examples 7 c, 7 c + 1, ...: a pure function of the cursor."""
    return (7 * (cursor + np.arange(count))[:, None] + np.arange(helpers.B)) % len(DATA)


SOURCE = Source(
    host_batches=host_batches,
    get_batch=lambda device_data, indices: {"x": device_data[indices]},
    device_data=jnp.asarray(DATA),
    batch_size=helpers.B,
)
GAME = helpers.game(wgan_gp(PRIOR), schedule=helpers.alternating(2), lr=0.05, ema={"generator": 0.9})


def start():
    return init_state(GAME, jax.random.key(3))


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("cuts", [(1, 8), (3, 5, 1), tuple([1] * 9)])
def test_cut_anywhere_is_bit_equal(cuts):
    whole, history = rollout(GAME, SOURCE, start(), 9, per_dispatch=4)
    state, parts = start(), []
    for rounds in cuts:
        state, part = rollout(GAME, SOURCE, state, rounds, per_dispatch=4)
        parts.append(part)
    same(state, whole)
    for name, values in history.items():
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values)
        assert values.shape == (9,)


def test_equals_single_rounds_of_the_same_batches():
    """Another program, so the last bits may differ: of float64, to which updates by a penalty add little."""
    with jax.enable_x64(True):
        found, history = rollout(GAME, SOURCE, start(), 3, per_dispatch=4)
        step, state = jax.jit(make_train_step(GAME)), start()
        for round_ in range(3):
            state, metrics = step(state, {"x": DATA[host_batches(3 * round_, 3)]})
            np.testing.assert_allclose(
                history["critic/loss"][round_], metrics["critic/loss"], rtol=1e-12, atol=1e-12
            )
        assert int(found.cursor) == int(state.cursor) == 9
        assert {leaf.dtype.name for p in found.players.values() for leaf in jax.tree.leaves(p.params)} == {
            "float64"
        }
        chex.assert_trees_all_close(
            [p.params for p in found.players.values()],
            [p.params for p in state.players.values()],
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.full
def test_one_trace_for_every_number_of_rounds():
    program = jax.jit(chex.assert_max_traces(rollout_program(GAME, SOURCE.get_batch), n=1))
    state = start()
    for rounds in (4, 1, 3, 2):
        host_batch = stack_rounds(SOURCE, int(state.cursor), 3, rounds, 4)
        state, _ = program(state, SOURCE.device_data, host_batch, np.int32(rounds))
    assert int(state.step) == 10


def test_feed_is_padded_to_the_capacity():
    host_batch = stack_rounds(SOURCE, 5, 3, 2, 4)
    assert host_batch.shape == (4, 3, helpers.B)
    np.testing.assert_array_equal(host_batch[:2].reshape(6, -1), host_batches(5, 6))
    np.testing.assert_array_equal(host_batch[2:], 0)


def test_counts_start_at_one():
    with pytest.raises(ValueError, match="rounds=0"):
        rollout(GAME, SOURCE, start(), 0)
    with pytest.raises(ValueError, match=r"rollout\(rounds=2\.5\): rounds is a whole number"):
        rollout(GAME, SOURCE, start(), 2.5)


@pytest.mark.parametrize(
    "traced",
    [jax.jit, lambda f: lambda x: jax.vmap(f)(jnp.full(2, x)), lambda f: jax.grad(lambda x: f(x).sum())],
    ids=["jit", "vmap", "grad"],
)
def test_what_runs_on_the_host_is_not_traced(traced):
    def scaled(scale):
        players = start().players
        params = jax.tree.map(lambda x: scale * x, players["generator"].params)
        return start()._replace(players=with_player(players, "generator", params=params))

    with pytest.raises(ValueError, match=r"rollout runs on the host and cannot be traced .*make_train_step"):
        traced(lambda scale: rollout(GAME, SOURCE, scaled(scale), 3))(1.0)
    with pytest.raises(
        ValueError, match=r"sample runs on the host and cannot be traced .*network\.apply there"
    ):
        traced(lambda scale: sample(GAME, scaled(scale), jax.random.key(0), 3))(1.0)


def test_a_round_is_traced_once(monkeypatch):
    """For the shapes of its metrics and for the body of the loop; each trace takes a part of a run's start."""
    rounds = []

    def counted(*args):
        rounds.append(args)
        return play_round(*args)

    monkeypatch.setattr("gan_jax.training.rollout.play_round", counted)
    batches = stack_rounds(SOURCE, 0, 3, 2, 4)
    jax.jit(rollout_program(GAME, SOURCE.get_batch)).trace(start(), SOURCE.device_data, batches, jnp.int32(2))
    assert len(rounds) == 1
