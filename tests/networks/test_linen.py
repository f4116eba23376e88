"""The seam between Flax modules and networks: statistics, keys, what couples a batch."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.keys import named_key
from gan_jax.networks import (
    BatchNorm,
    GaussianNoise,
    MinibatchDiscrimination,
    MLPCritic,
    from_linen,
)

KEY = jax.random.key(0)


class Normed(nn.Module):
    """One batch normalisation, with or without the batch's own statistics."""

    frozen: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        return nn.BatchNorm(use_running_average=self.frozen or not train, momentum=0.9)(x)


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return GaussianNoise(2.0)(x, train=train)


class Sharing(nn.Module):
    """A user's own layer that subtracts the batch's mean."""

    def __call__(self, x):
        return x - x.mean(0)


class Conditional(nn.Module):
    @nn.compact
    def __call__(self, x, y):
        return nn.Dense(2)(x) + nn.Embed(4, 2)(y)


class Wrapped(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, x, train=False):
        return self.layer(x)


def test_statistics_chain_and_change_only_in_training():
    """Flax's rule by hand: mean <- .9 mean + .1 batch mean, twice, on batches of means 1 and 3."""
    network = from_linen(Normed(), jnp.ones((2, 1)))
    params, model_state = network.init(KEY)
    for mean in (1.0, 3.0):
        batch = jnp.array([[mean - 1], [mean + 1]])
        out, model_state = network.apply(params, model_state, batch, train=True, key=None)
        np.testing.assert_allclose(out, [[-1.0], [1.0]], atol=1e-4)
    np.testing.assert_allclose(
        model_state["batch_stats"]["BatchNorm_0"]["mean"], [0.9 * 0.1 + 0.1 * 3], rtol=1e-6
    )
    np.testing.assert_allclose(
        model_state["batch_stats"]["BatchNorm_0"]["var"], [0.81 + 0.09 + 0.1], rtol=1e-6
    )

    evaluated, after = network.apply(params, model_state, jnp.array([[5.0]]), train=False, key=None)
    assert after is model_state
    np.testing.assert_allclose(evaluated, [[5.0 - 0.39]], rtol=1e-4)


def test_parameters_are_separate_from_all_other_collections():
    params, model_state = from_linen(MLPCritic(widths=(4,), norm="batch+spectral"), jnp.ones((2, 3))).init(
        KEY
    )
    assert set(model_state) == {"batch_stats", "spectral"}
    assert set(params) == {"trunk", "scores"}


def test_an_init_from_shapes_is_the_init_from_arrays():
    module = MLPCritic(widths=(4,))
    from_array = from_linen(module, jnp.ones((1, 3))).init(KEY)
    from_shape = from_linen(module, jax.ShapeDtypeStruct((2, 3), jnp.float32)).init(KEY)
    chex.assert_trees_all_equal(from_array, from_shape)


def test_noise_is_frozen_in_evaluation_and_comes_from_the_key_in_training():
    network = from_linen(Noisy(), jnp.ones((1, 4)))
    x = jnp.ones((500, 4))
    for key in (None, KEY):
        np.testing.assert_array_equal(network.apply({}, {}, x, train=False, key=key)[0], x)
    first, again, other = (
        network.apply({}, {}, x, train=True, key=key)[0] for key in (KEY, KEY, jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0
    assert 1.8 < np.std(first) < 2.2


def test_streams_are_derived_from_the_key_by_name():
    class Keys(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jax.random.key_data(self.scope.rngs["noise"].rng), jax.random.key_data(
                self.scope.rngs["dropout"].rng
            )

    (noise, dropout), _ = from_linen(Keys(), jnp.ones(1)).apply({}, {}, jnp.ones(1), train=True, key=KEY)
    np.testing.assert_array_equal(noise, jax.random.key_data(named_key(KEY, "noise")))
    np.testing.assert_array_equal(dropout, jax.random.key_data(named_key(KEY, "dropout")))


def test_a_missing_key_is_named_where_something_draws():
    network = from_linen(Noisy(), jnp.ones((1, 4)))
    with pytest.raises(ValueError, match=r"Noisy draws random numbers.*key"):
        network.apply({}, {}, jnp.ones((1, 4)), train=True, key=None)


@pytest.mark.parametrize(
    ("module", "couples"),
    [
        (Normed(), True),
        (Normed(frozen=True), False),
        (nn.Dense(3), False),
        (Wrapped(nn.LayerNorm()), False),
        (Wrapped(Sharing()), True),
        (Wrapped(MinibatchDiscrimination(2, 2)), True),
        (MLPCritic(widths=(4, 4), norm="batch"), True),
        (MLPCritic(widths=(4, 4), norm="layer+spectral"), False),
        (MLPCritic(widths=(4,), minibatch="stddev"), True),
        (MLPCritic(widths=(4,), norm=lambda: BatchNorm(groups=2)), True),
        (MLPCritic(widths=(4,), norm=lambda: BatchNorm(axis_name="devices")), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_couples_a_batch_is_found(module, couples):
    assert from_linen(module, jnp.ones((2, 3))).couples_batch is couples


@pytest.mark.parametrize("norm", ["batch", "layer", "spectral", "weight", "equalized", "none"])
def test_what_is_found_about_coupling_is_true(norm):
    """Changing the second example changes the first one's score exactly where coupling is found."""
    network = from_linen(MLPCritic(widths=(5,), norm=norm), jnp.ones((2, 3)))
    params, model_state = network.init(KEY)
    x = jax.random.normal(KEY, (3, 3))
    score = jax.jit(lambda x: network.apply(params, model_state, x, train=True, key=None)[0][0])
    influence = jax.jit(jax.grad(score))(x)[1]
    assert bool(jnp.any(influence != 0)) is network.couples_batch


def test_shapes_and_types_of_the_examples_are_the_specification():
    labels = jax.ShapeDtypeStruct((1,), jnp.int32)
    network = from_linen(Conditional(), jnp.ones((2, 3)), labels)
    assert network.inputs == (jax.ShapeDtypeStruct((2, 3), jnp.float32), labels)
    assert network.couples_batch is False


def test_modules_without_a_train_argument_are_called_without_it():
    network = from_linen(nn.Dense(3), jnp.ones((1, 2)))
    params, model_state = network.init(KEY)
    out, _ = network.apply(params, model_state, jnp.ones((4, 2)), train=True, key=KEY)
    assert out.shape == (4, 3)
    assert model_state == {}


def test_examples_are_asked_for():
    with pytest.raises(ValueError, match="needs an example of each input"):
        from_linen(nn.Dense(3))
