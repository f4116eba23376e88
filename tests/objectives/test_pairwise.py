"""Every objective with every penalty, term, preparation, way of looking ahead and field.

A pair either is refused when it is built, in words, or its whole round traces. The representatives run here in the
plain test command; `-m pairwise` traces every objective with every modifier, every two modifiers with one another,
and runs every modifier on the representatives.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from gan_jax import field as fields
from gan_jax.network import Network
from gan_jax.objectives import _catalogue
from gan_jax.objectives._catalogue import MODIFIERS
from gan_jax.schedule import fresh_turns
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.objectives import cases
from tests.tiers import full_except

REPRESENTATIVES = ("gan", "wgan_gp", "semi_supervised", "vral")
FIELDS = {
    "consensus": fields.consensus(0.1),
    "symplectic": fields.symplectic_adjustment(),
    "extragradient": fields.extragradient(),
    "runge_kutta_2": fields.runge_kutta(2),
    "runge_kutta_4": fields.runge_kutta(4),
}
PACKED = 2
# The pairs that make no sense, and why; a change here is a change of what the library promises.
REFUSED_BY_REPRESENTATIVES = {
    "gan": set(),
    "wgan_gp": {"gradient_penalty", "one_sided_penalty", "label_smoothing", "adaptive_augmentation"},
    "semi_supervised": {
        "feature_matching",  # it is there already
        "label_smoothing",
        "adaptive_augmentation",
        "top_k",  # feature matching is no mean over examples
        "packing",
    },
    "vral": {"label_smoothing", "adaptive_augmentation"},
}


REFUSED_WHEN_TRACED = {(name, "top_k") for name in ("cat_gan", "cramer", "mmd_gan")}
"""Losses over the whole batch, which is found in the traced program."""


def with_every_head(network):
    """A critic that any modifier can read: packs are averaged back to single inputs, heads are added."""

    def apply(params, model_state, x, *conditions, train, key):
        packs = x.shape[-1] // helpers.X_DIM
        if packs > 1:
            x = jnp.mean(x.reshape(x.shape[0], packs, helpers.X_DIM), axis=1)
            conditions = tuple(c.reshape(c.shape[0], packs, -1)[:, 0] for c in conditions)
        out, model_state = network.apply(params, model_state, x, *conditions, train=train, key=key)
        out = dict(out) if isinstance(out, dict) else {"score": out}
        base = out["features"] if "features" in out else out["score"][:, None]
        for name, size in (("classes", helpers.CLASSES), ("code", _catalogue.CODE.head_size)):
            out.setdefault(name, jnp.tile(base[:, :1], (1, size)))
        out.setdefault("features", base)
        return out, model_state

    return dataclasses.replace(network, apply=apply)


def networks_of(name) -> dict[str, Network]:
    return {
        player: with_every_head(network) if player.startswith("critic") else network
        for player, network in cases.case(name).networks().items()
    }


def batch_of(name, turns):
    """With everything that a modifier might read; examples enough for packs."""
    batch = cases.case(name).batch(shape=(turns,))
    return {**helpers.batch(shape=(turns,)), **batch}


def build(name, *modifiers, field=None):
    """The game of an objective and modifiers; a `ValueError` where they make no sense together."""
    objective = cases.case(name).build()
    for modifier in modifiers:
        objective = MODIFIERS[modifier](objective)
    made = cases.game(name, objective)
    players = {
        player: dataclasses.replace(made.players[player], network=network)
        for player, network in networks_of(name).items()
    }
    return dataclasses.replace(made, players=players, field=field)


def trace(game, name):
    state = jax.eval_shape(functools.partial(init_state, game), jax.random.key(0))
    after, metrics = jax.eval_shape(make_train_step(game), state, batch_of(name, fresh_turns(game.schedule)))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert {f"{player}/loss" for player in game.players} <= set(metrics)


def build_and_trace(name, *modifiers):
    """Whether the combination is taken; a refusal must say what to do in a sentence."""
    try:
        trace(build(name, *modifiers), name)
    except ValueError as error:
        refusal = str(error)
    else:
        return True
    assert len(refusal) > 40
    return False


@pytest.mark.full
@pytest.mark.parametrize("name", full_except(["gan"], REPRESENTATIVES))
def test_representatives_with_every_modifier(name):
    refused = {modifier for modifier in MODIFIERS if not build_and_trace(name, modifier)}
    assert refused == REFUSED_BY_REPRESENTATIVES[name]


@pytest.mark.full
@pytest.mark.parametrize("name", full_except(["gan", "wgan_gp"], REPRESENTATIVES))
def test_representatives_in_every_field(name):
    for field in FIELDS.values():
        trace(build(name, field=field), name)


def run(game, name):
    """One compiled round: finite, and every player moves."""
    state = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game), compiler_options={"xla_backend_optimization_level": 0})
    after, metrics = step(state, batch_of(name, fresh_turns(game.schedule)))
    chex.assert_tree_all_finite((metrics, [p.params for p in after.players.values()]))
    for player in game.players:
        before = jax.tree.leaves(state.players[player].params)
        moved = [
            jnp.any(a != b)
            for a, b in zip(jax.tree.leaves(after.players[player].params), before, strict=True)
        ]
        assert any(moved), f"{player} does not move"


@pytest.mark.pairwise
@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_modifier_runs_on_the_representatives(name, modifier):
    if modifier not in REFUSED_BY_REPRESENTATIVES[name]:
        run(build(name, modifier), name)


@pytest.mark.pairwise
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_field_runs_on_the_representatives(name, field):
    run(build(name, field=FIELDS[field]), name)


@pytest.mark.pairwise
@pytest.mark.parametrize("name", cases.MODULES)
def test_every_objective_with_every_modifier(name):
    """What the documentation's table says is taken, traces."""
    for modifier in MODIFIERS:
        taken = _catalogue.refusal(cases.case(name).build(), modifier) is None
        traced = taken and (name, modifier) not in REFUSED_WHEN_TRACED
        assert build_and_trace(name, modifier) == traced, modifier


@pytest.mark.pairwise
@pytest.mark.parametrize("name", cases.MODULES)
def test_every_objective_in_every_field(name):
    for field in FIELDS.values():
        trace(build(name, field=field), name)


@pytest.mark.pairwise
@pytest.mark.parametrize("first", MODIFIERS)
def test_every_two_modifiers_on_the_minimax_game(first):
    """In this order; the other order is another case."""
    for second in MODIFIERS:
        if second != first:
            build_and_trace("gan", first, second)


@pytest.mark.pairwise
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("modifier", MODIFIERS)
def test_every_modifier_in_every_field(modifier, field):
    trace(build("gan", modifier, field=FIELDS[field]), "gan")


@pytest.mark.pairwise
@pytest.mark.parametrize("name", cases.MODULES)
def test_every_objective_runs_under_pmap(name):
    """Two replicas, each with its part of the batch, end with the same players, finite."""
    game = cases.game(name, field=fields.replica_mean())
    parts = [cases.case(name).batch(seed, shape=(fresh_turns(game.schedule),)) for seed in range(2)]
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    step = jax.pmap(make_train_step(game), axis_name="data", in_axes=(None, 0), devices=jax.devices()[:2])
    after, metrics = step(init_state(game, jax.random.key(0)), batches)
    chex.assert_tree_all_finite((metrics, [p.params for p in after.players.values()]))
    for leaf in jax.tree.leaves(
        [(p.params, p.model_state, p.objective_state) for p in after.players.values()]
    ):
        chex.assert_trees_all_equal(leaf[0], leaf[1])
