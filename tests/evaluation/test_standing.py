"""Standing statistics: those of the weights that a generator has, against numpy's on the same latents."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.evaluation.sampling import sample
from gan_jax.evaluation.standing import has_statistics, standing_statistics
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, GeneratorRole, Player
from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.networks import from_linen
from gan_jax.networks.layers import BatchNorm
from gan_jax.objectives.wgan import wgan
from gan_jax.schedule import alternating
from gan_jax.state import with_player
from gan_jax.training.step import init_state
from tests import helpers


class Normalized(nn.Module):
    """`3 z + 2`, normalised by ours (momentum .9) and Flax's (momentum .99) batch normalisation."""

    @nn.compact
    def __call__(self, z, *, train):
        x = z * self.param("scale", nn.initializers.constant(3.0), ()) + 2.0
        theirs = nn.BatchNorm(use_running_average=not train, use_bias=False, use_scale=False)(x)
        return BatchNorm(affine=False)(x, train=train) + theirs


def game(network, ema=None):
    networks = {"critic": helpers.critic(), "generator": network}
    players = {
        name: Player(made, optax.sgd(0.1), ema if name == "generator" else None)
        for name, made in networks.items()
    }
    return Game(players=players, objective=wgan(gaussian(2)), schedule=alternating())


def expected(scale, key, batches, size):
    """The means over batches of numpy's mean and variance of `scale z + 2`."""
    drawn = [
        scale
        * np.asarray(
            gaussian(2)(named_key(jax.random.fold_in(named_key(key, "standing"), i), "latent"), size),
            np.float64,
        )
        + 2
        for i in range(batches)
    ]
    return np.mean([x.mean(0) for x in drawn], 0), np.mean([x.var(0) for x in drawn], 0)


@pytest.mark.full
def test_statistics_are_those_of_the_weights_at_hand_and_of_the_average_its_own():
    """The running statistics are wrong by far, as after a change of the weights."""
    made = game(from_linen(Normalized(), jnp.zeros((2, 2))), ema=0.9)
    state = init_state(made, jax.random.key(0))
    params, model_state = state.ema["generator"]
    state = state._replace(ema={"generator": (jax.tree.map(lambda x: 2 * x, params), model_state)})
    key = jax.random.key(5)
    standing = standing_statistics(made, state, key, batches=3, batch_size=10)
    raw, ema = standing.players["generator"].model_state, standing.ema["generator"][1]
    for found, scale in ((raw, 3.0), (ema, 6.0)):
        mean, variance = expected(scale, key, 3, 10)
        for layer in found["batch_stats"].values():
            np.testing.assert_allclose(layer["mean"], mean, rtol=1e-5)
            np.testing.assert_allclose(layer["var"], variance, rtol=1e-4)
    # Each of the two layers normalises 3 z + 2 to mean 0 and variance 1.
    samples = sample(made, standing, jax.random.key(1), 2000, ema=False)
    np.testing.assert_allclose(samples.std(0), 2.0, rtol=0.4)
    np.testing.assert_allclose(samples.mean(0), 0.0, atol=0.5)
    before = sample(made, state, jax.random.key(1), 2000, ema=False)
    assert np.all(before.mean(0) > 3)


def labelled_mean():
    """Keeps the running mean of its labels; its other states are of no averages."""

    def apply(params, model_state, z, y, *, train, key=None):
        if train:
            mean = 0.5 * model_state["mean"] + 0.5 * jnp.mean(y.astype(jnp.float32))
            model_state = {**model_state, "mean": mean, "calls": model_state["calls"] + 1}
        return z * params, model_state

    return Network(
        init=lambda key: (jnp.ones(()), {"mean": jnp.zeros(()), "calls": jnp.zeros((), jnp.int32)}),
        apply=apply,
        running_statistics=lambda state: {"mean": True, "calls": False},
    )


def conditional(network):
    made = game(network)
    role = GeneratorRole(condition=lambda batch: (batch["y"],))
    objective = made.objective.with_player("generator", role=role)
    return dataclasses.replace(made, objective=objective)


def test_labels_that_come_class_by_class_are_in_every_batch_and_other_states_stay():
    """100 labels 0 and then 100 labels 1, in 4 batches: their mean is .5 in all, and counters do not count."""
    seen = []
    network = labelled_mean()

    def apply(params, model_state, z, y, **options):
        jax.debug.callback(lambda y: seen.append(float(np.mean(y))), y)
        return network.apply(params, model_state, z, y, **options)

    made = conditional(dataclasses.replace(network, apply=apply))
    state = init_state(made, jax.random.key(0))
    labels = lambda n: {"y": np.repeat([0, 1], n // 2)}  # noqa: E731
    standing = standing_statistics(
        made, state, jax.random.key(1), batches=4, batch_size=50, condition_batch=labels
    )
    jax.effects_barrier()
    after = standing.players["generator"].model_state
    assert float(after["mean"]) == pytest.approx(0.5)
    assert int(after["calls"]) == 0
    assert all(0.2 < mean < 0.8 for mean in seen)


def test_statistics_that_are_no_averages_are_refused():
    network = labelled_mean()

    def apply(params, model_state, z, y, *, train, key=None):
        out, after = network.apply(params, model_state, z, y, train=train, key=key)
        return out, {**after, "mean": jnp.sqrt(jnp.abs(after["mean"]))}

    made = conditional(dataclasses.replace(network, apply=apply))
    state = init_state(made, jax.random.key(0))
    with pytest.raises(ValueError, match=r"running statistics of 'generator' are not averages m old"):
        standing_statistics(made, state, jax.random.key(1), condition_batch=lambda n: {"y": np.zeros(n)})
    with pytest.raises(
        ValueError, match=r"standing_statistics\(batches=0\): batches is a whole number, 1 or more"
    ):
        standing_statistics(made, state, jax.random.key(1), batches=0)


def test_a_generator_without_running_statistics_is_as_it_was():
    made = game(dataclasses.replace(helpers.generator(inputs=2)))
    state = init_state(made, jax.random.key(0))
    assert not has_statistics(made, state)
    assert standing_statistics(made, state, jax.random.key(1)).players["generator"].model_state == (
        state.players["generator"].model_state
    )
    moved = with_player(state.players, "generator", model_state={})
    assert not has_statistics(made, state._replace(players=moved))
