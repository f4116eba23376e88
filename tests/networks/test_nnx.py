"""Flax NNX modules as networks: state, modes, keys, coupling, and the same games as with Linen."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gan_jax.functional import priors
from gan_jax.game import Game, Player
from gan_jax.keys import named_key
from gan_jax.network import rematerialized
from gan_jax.networks import from_linen, from_nnx
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.schedule import alternating
from gan_jax.training.step import init_state, make_train_step

KEY = jax.random.key(0)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(1, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class Hidden(nnx.Module):
    """Batch normalisation behind weights that are zero."""

    def __init__(self, rngs, norm=nnx.BatchNorm):
        self.first = nnx.Linear(2, 4, rngs=rngs)
        self.norm = norm(4, rngs=rngs)
        self.last = nnx.Linear(4, 1, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = (nnx.Dropout(0.5, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        return {"first": self.first(x), "second": self.second(x)}


class Critic(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](jnp.tanh(self.layers[0](x)))[:, 0]


class Generator(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.norm = nnx.Linear(3, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, z):
        return self.last(jnp.tanh(self.norm(self.hidden(z))))


class LinenCritic(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(8)(x)
        return nn.Dense(1)(jnp.tanh(h))[:, 0]


class LinenGenerator(nn.Module):
    @nn.compact
    def __call__(self, z, train):
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(z))
        return nn.Dense(2)(jnp.tanh(h))


def test_statistics_chain_and_change_only_in_training():
    """Flax's rule by hand: mean <- .9 mean + .1 batch mean, twice, on batches of means 1 and 3."""
    network = from_nnx(Normed, jnp.ones((2, 1)))
    params, model_state = network.init(KEY)
    for mean in (1.0, 3.0):
        batch = jnp.array([[mean - 1], [mean + 1]])
        out, model_state = network.apply(params, model_state, batch, train=True)
        np.testing.assert_allclose(out, [[-1.0], [1.0]], atol=1e-4)
    np.testing.assert_allclose(model_state["norm"]["mean"], [0.9 * 0.1 + 0.1 * 3], rtol=1e-6)
    np.testing.assert_allclose(model_state["norm"]["var"], [0.81 + 0.09 + 0.1], rtol=1e-6)
    evaluated, after = network.apply(params, model_state, jnp.array([[5.0]]), train=False)
    assert after is model_state
    np.testing.assert_allclose(evaluated, [[5.0 - 0.39]], rtol=1e-4)


def test_parameters_are_plain_dicts_separate_from_other_state():
    params, model_state = from_nnx(Critic).init(KEY)
    chex.assert_trees_all_equal_shapes(
        params,
        {
            "layers": {
                "0": {"kernel": jnp.ones((2, 8)), "bias": jnp.ones(8)},
                "1": {"kernel": jnp.ones((8, 1)), "bias": jnp.ones(1)},
            }
        },
    )
    assert model_state == {}
    params, model_state = from_nnx(Generator).init(KEY)
    assert set(params) == {"hidden", "norm", "last"}
    assert set(params["norm"]) == {"scale", "bias"}
    assert set(model_state) == {"norm"}
    assert set(model_state["norm"]) == {"mean", "var"}
    assert from_nnx(Dropped).init(KEY) == ({}, {})


def test_many_layers_keep_their_order():
    """More than ten, so that their names do not sort as their numbers do."""

    class Deep(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List(
                nnx.Linear(1, 1, kernel_init=nnx.initializers.constant(i), rngs=rngs) for i in range(12)
            )

        def __call__(self, x):
            return jnp.concatenate([layer(x) for layer in self.layers], axis=1)

    network = from_nnx(Deep)
    params, model_state = network.init(KEY)
    assert params["layers"]["11"]["kernel"].item() == 11
    out, _ = network.apply(params, model_state, jnp.ones((1, 1)))
    np.testing.assert_array_equal(out, [np.arange(12)])


def test_the_key_makes_the_parameters():
    network = from_nnx(Critic)
    first, again, other = (network.init(key) for key in (KEY, KEY, jax.random.key(1)))
    chex.assert_trees_all_equal(first, again)
    assert np.all(first[0]["layers"]["0"]["kernel"] != other[0]["layers"]["0"]["kernel"])
    stacked, _ = jax.vmap(network.init)(jnp.stack([KEY, jax.random.key(1)]))
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[1], stacked), other[0])


def test_dropout_draws_by_the_key():
    network = from_nnx(Dropped)
    x = jnp.ones((4, 250))

    @jax.jit
    def draw(key):
        return network.apply({}, {}, x, train=True, key=key)[0]

    first, again, other = draw(KEY), draw(KEY), draw(jax.random.key(1))
    chex.assert_trees_all_equal(first, again)
    assert set(np.unique(first["first"])) == {0.0, 2.0}
    assert 0.4 < np.mean(first["first"] == 0) < 0.6
    assert 0.4 < np.mean(first["first"] != other["first"]) < 0.6
    assert 0.4 < np.mean(first["first"] != first["second"]) < 0.6
    for key in (None, KEY):
        chex.assert_trees_all_equal(
            network.apply({}, {}, x, train=False, key=key)[0], {"first": x, "second": x}
        )


def test_streams_are_derived_from_the_key_by_their_place():
    class Drawing(nnx.Module):
        def __init__(self, rngs):
            self.rngs = rngs.fork()

        def __call__(self):
            return jax.random.key_data(self.rngs.noise())

    network = from_nnx(Drawing)
    stream = named_key(KEY, "rngs/default/key")
    np.testing.assert_array_equal(
        network.apply({}, {}, key=KEY)[0], jax.random.key_data(jax.random.fold_in(stream, 0))
    )


@pytest.mark.parametrize("jit", [False, True])
def test_a_missing_key_is_named_where_something_draws(jit):
    network = from_nnx(Dropped)
    apply = functools.partial(network.apply, train=True, key=None)
    with pytest.raises(ValueError, match=r"Dropped draws random numbers.*key"):
        (jax.jit(apply) if jit else apply)({}, {}, jnp.ones((1, 4)))


def test_layers_in_a_scan_draw_with_separate_keys():
    class Layers(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap
            def stacked(rngs):
                return nnx.Dropout(0.5, rngs=rngs)

            self.layers = stacked(rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(0, None), out_axes=0)
            def run(layer, x):
                return layer(x)

            return run(self.layers, x)

    network = from_nnx(Layers)
    x = jnp.ones(200)
    out, _ = network.apply({}, {}, x, train=True, key=KEY)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert 0.35 < np.mean(out[first] != out[second]) < 0.65
    np.testing.assert_array_equal(network.apply({}, {}, x, train=False, key=None)[0], np.ones((3, 200)))


def test_modules_that_take_train_are_given_it():
    class Switched(nnx.Module):
        def __init__(self, rngs):
            pass

        def __call__(self, x, *, train):
            return x if train else -x

    network = from_nnx(Switched)
    assert network.apply({}, {}, jnp.ones(1), train=True)[0] == 1
    assert network.apply({}, {}, jnp.ones(1), train=False)[0] == -1


def test_state_of_other_kinds_is_kept_and_what_a_call_adds_is_not():
    class Counter(nnx.Variable):
        pass

    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.calls, self.added = Counter(jnp.zeros(())), nnx.data(None)

        def __call__(self, x):
            self.calls[...] += 1
            self.added = Counter(x)
            return x

    network = from_nnx(Counting)
    params, model_state = network.init(KEY)
    assert params == {}
    for _ in range(2):
        _, model_state = network.apply(params, model_state, jnp.ones(1), train=True)
    assert jax.tree.map(float, model_state) == {"calls": 2.0}
    assert network.apply(params, model_state, jnp.ones(1), train=False)[1] is model_state


@pytest.mark.parametrize(
    ("factory", "couples"),
    [
        (Hidden, True),
        (functools.partial(Hidden, norm=nnx.LayerNorm), False),
        (lambda rngs: nnx.Linear(2, 3, rngs=rngs), False),
    ],
)
def test_coupling_is_found(factory, couples):
    network = from_nnx(factory, jnp.ones((1, 2)))
    assert network.couples_batch is couples
    assert rematerialized(network).couples_batch is couples
    assert from_nnx(factory).inputs is None


def test_initialised_modules_and_other_functions_are_refused():
    with pytest.raises(ValueError, match=r"this Critic is initialised already.*lambda rngs: Critic"):
        from_nnx(Critic(nnx.Rngs(0)))
    with pytest.raises(ValueError, match="which it does not take"):
        from_nnx(lambda: None)


def game(critic, generator):
    return Game(
        players={"critic": Player(critic, optax.sgd(0.1)), "generator": Player(generator, optax.sgd(0.1))},
        objective=non_saturating(priors.gaussian(3)),
        schedule=alternating(),
    )


def in_linen(players):
    """States of the NNX pair as the Linen pair's."""
    critic, generator = players["critic"], players["generator"]
    names = {"hidden": "Dense_0", "norm": "BatchNorm_0", "last": "Dense_1"}
    return {
        "critic": critic._replace(
            params={f"Dense_{i}": critic.params["layers"][str(i)] for i in range(2)}, model_state={}
        ),
        "generator": generator._replace(
            params={names[name]: leaf for name, leaf in generator.params.items()},
            model_state={"batch_stats": {"BatchNorm_0": generator.model_state["norm"]}},
        ),
    }


@pytest.mark.full
def test_rounds_are_those_of_the_same_networks_in_linen():
    x, z = jnp.ones((1, 2)), jnp.ones((1, 3))
    ours = game(from_nnx(Critic, x), from_nnx(Generator, z))
    theirs = game(from_linen(LinenCritic(), x), from_linen(LinenGenerator(), z))
    state = init_state(ours, KEY)
    linen_state = init_state(theirs, KEY)._replace(players=in_linen(state.players))
    batches = {"x": jax.random.normal(KEY, (2, 8, 2))}
    before = state
    for _ in range(2):
        state, metrics = jax.jit(make_train_step(ours))(state, batches)
        linen_state, linen_metrics = jax.jit(make_train_step(theirs))(linen_state, batches)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        before.players["critic"].params,
        state.players["critic"].params,
    )
    assert min(jax.tree.leaves(moved)) > 0
    chex.assert_trees_all_close(in_linen(state.players), linen_state.players, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_close(metrics, linen_metrics, rtol=1e-6, atol=1e-6)


@pytest.mark.full
def test_a_game_needs_no_input_specification():
    made = Game(
        players={
            "critic": Player(from_nnx(Critic), optax.adam(1e-3)),
            "generator": Player(from_nnx(Generator), optax.adam(1e-3)),
        },
        objective=hinge(priors.gaussian(3)),
        schedule=alternating(),
    )
    state, metrics = make_train_step(made)(init_state(made, KEY), {"x": jnp.ones((2, 4, 2))})
    assert int(state.step) == 1
    assert np.isfinite(metrics["critic/loss"])


class Bridging(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nnx.bridge.to_linen(nnx.BatchNorm, 3)(nn.Dense(3)(x))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nnx.bridge.to_linen(nnx.BatchNorm, 2), "BatchNorm"),
        (Bridging(), "BatchNorm"),
        (nnx.Linear(2, 3, rngs=nnx.Rngs(0)), "Linear"),
    ],
)
def test_linen_refuses_modules_of_nnx(module, name):
    with pytest.raises(ValueError, match=f"{name} is a module of Flax NNX.*from_nnx"):
        from_linen(module, jnp.ones((1, 2)))
