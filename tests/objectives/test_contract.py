"""What every objective promises, whoever wrote it: the modules are discovered, none is listed."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import field
from gan_jax.game import Objective
from gan_jax.schedule import fresh_turns
from gan_jax.state import PlayerState, TrainState
from gan_jax.training.step import init_state, make_train_step
from tests.objectives import cases
from tests.tiers import full_except

UNOPTIMISED = {"xla_backend_optimization_level": 0}  # compiles twice as fast
EVERY = pytest.mark.parametrize("name", cases.MODULES)
REPRESENTATIVES = ("gan", "wgan_gp", "semi_supervised", "vral")
TWO_PLAYER = [n for n in cases.MODULES if set(cases.case(n).build().players) == {"critic", "generator"}]


def float_leaves(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


@EVERY
def test_module_has_a_factory_of_its_name_with_a_source(name):
    found = cases.factory(name)
    assert inspect.isfunction(found)
    assert found.__module__ == f"gan_jax.objectives.{name}"
    assert isinstance(cases.case(name).build(), Objective)
    assert "arXiv:" in (found.__doc__ or "") or "doi" in (found.__doc__ or ""), "the factory cites its paper"
    assert cases.module(name).__doc__


def head_shape(name, n=6):
    """Of what the score losses of a module are: scores `[B]`, or features `[B, D]` where it names its HEAD."""
    return (n,) if getattr(cases.module(name), "HEAD", "score") == "score" else (n, 3)


def score_losses():
    """`(name, loss, its shape of input)` of every two-player module."""
    for name in TWO_PLAYER:
        for which in ("critic_loss", "generator_loss"):
            yield f"{name}.{which}", getattr(cases.module(name), which), head_shape(name)


def drawn(shape, dtype):
    return [jax.random.normal(key, shape).astype(dtype) for key in jax.random.split(jax.random.key(0))]


class ScoreLosses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_two_player_modules_expose_their_score_losses(self):
        """`critic_loss(real, fake)` and `generator_loss(real, fake)` are `[B]` or a scalar, and finite."""

        def values():
            return {name: loss(*drawn(shape, jnp.float32)) for name, loss, shape in score_losses()}

        for name, value in self.variant(values)().items():
            with self.subTest(name):
                assert value.shape in [(6,), ()]
                assert np.all(np.isfinite(value))


@pytest.mark.full
def test_score_losses_of_bf16_scores_have_finite_gradients():
    """The rounds below show the same of float32."""

    def mean(scores):
        values = {name: loss(*scores[name]) for name, loss, _ in score_losses()}
        return sum(jnp.mean(v.astype(jnp.float32)) for v in values.values()), values

    scores = {name: drawn(shape, jnp.bfloat16) for name, _, shape in score_losses()}
    (_, values), grads = jax.jit(jax.value_and_grad(mean, has_aux=True), compiler_options=UNOPTIMISED)(scores)
    for name, found in values.items():
        leaves = jax.tree.leaves((found, grads[name]))
        assert all(np.all(np.isfinite(leaf.astype(jnp.float32))) for leaf in leaves), name


@pytest.mark.parametrize("name", [n for n in TWO_PLAYER if not hasattr(cases.module(n), "HEAD")])
def test_scores_rise_with_realness(name):
    """Adding to all real scores and taking from all fake ones never raises a critic's loss, where scores agree."""
    critic_loss = cases.module(name).critic_loss
    scores = jnp.linspace(-0.4, 0.4, 6)
    shift = jax.grad(lambda d: jnp.mean(critic_loss(scores + d, scores - d)))(0.0)
    assert shift < 0


def movements(played):
    """A diagnostic: the least movement of a leaf of the players of the turn, the most of anybody else's."""

    game, turn, before, after = (
        played.context.game,
        played.turn,
        played.context.players,
        played.after,
    )

    def leaf_changes(name, field):
        pairs = zip(
            float_leaves(getattr(after[name], field)), float_leaves(getattr(before[name], field)), strict=True
        )
        return [jnp.max(jnp.abs(a - b)) for a, b in pairs]

    others = [n for n in game.players if n not in turn.players]
    changes = [c for n in others for f in PlayerState._fields for c in leaf_changes(n, f)]
    return {
        **{f"{n}/least moved": jnp.min(jnp.stack(leaf_changes(n, "params"))) for n in turn.players},
        **{
            f"{n}/calls": after[n].model_state["calls"] - before[n].model_state["calls"] for n in turn.players
        },
        f"{turn.players[0]}/others moved": jnp.max(jnp.stack([jnp.zeros(()), *changes])),
    }


def stacked(states):
    """States of several seeds as one, with `step` and `cursor` shared."""
    states_ = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return states_._replace(step=states[0].step, cursor=states[0].cursor)


SEEDS = TrainState(None, None, 0, 0, 0)


@functools.cache
def two_rounds_of_two_seeds(name):
    """`(states before, after one round and after two, the first round's metrics)`, from one trace."""
    game = cases.game(name)
    batches = cases.case(name).batch(shape=(fresh_turns(game.schedule),))
    step = make_train_step(game, diagnostics=[movements])
    before = stacked([init_state(game, jax.random.key(seed)) for seed in range(2)])
    chex.clear_trace_counter()
    once = chex.assert_max_traces(step, n=1)
    seeds = jax.jit(jax.vmap(once, (SEEDS, None), (SEEDS, 0)), compiler_options=UNOPTIMISED)
    after, metrics = seeds(before, batches)
    return before, after, seeds(after, batches)[0], metrics


@pytest.mark.parametrize("name", full_except(REPRESENTATIVES, cases.MODULES))
def test_a_round(name):
    """Two seeds at once: finite, one trace; every parameter of the player that moves, nothing of the others."""
    _, after, again, metrics = two_rounds_of_two_seeds(name)
    chex.assert_tree_all_finite(float_leaves((after, metrics, again)))
    assert not np.array_equal(*jax.tree.leaves(after.players)[0])
    for player in after.players:
        chex.assert_shape(metrics[f"{player}/loss"], (2,))
        assert np.all(metrics[f"{player}/least moved"] > 0), f"some parameter of {player} stays where it is"
        assert np.all(metrics[f"{player}/others moved"] == 0), f"{player}'s turn moves another player"
        assert np.all(metrics[f"{player}/calls"] > 0), f"{player}'s statistics do not follow its calls"


@pytest.mark.full
@pytest.mark.parametrize("name", full_except(["gan"], REPRESENTATIVES))
def test_a_seed_among_several_equals_a_single_seed(name):
    """`vmap` changes nothing but rounding; nor does leaving out `jit`, for the minimax game."""
    game = cases.game(name)
    batches = cases.case(name).batch(shape=(fresh_turns(game.schedule),))
    _, together, _, _ = two_rounds_of_two_seeds(name)
    step = make_train_step(game)
    if name != "gan":
        step = jax.jit(step, compiler_options=UNOPTIMISED)
    single, _ = step(init_state(game, jax.random.key(1)), batches)
    for a, b in zip(float_leaves(together.players), float_leaves(single.players), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=2e-3, atol=2e-5)


@EVERY
def test_a_round_traces_under_pmap(name):
    """Two replicas, each with its part of the batch, gradients averaged."""
    game = cases.game(name, field=field.replica_mean())
    batches = cases.case(name).batch(shape=(2, fresh_turns(game.schedule)))
    step = jax.pmap(make_train_step(game), axis_name="data", in_axes=(None, 0), devices=jax.devices()[:2])
    state = jax.eval_shape(lambda k: init_state(game, k), jax.random.key(0))
    after, _ = jax.eval_shape(step, state, batches)
    assert jax.tree.leaves(after.players)[0].shape[0] == 2
