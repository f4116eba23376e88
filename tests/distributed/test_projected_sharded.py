"""BigGAN's generator against a projected critic on eight simulated devices: the single device's result."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from gan_jax.distributed import jit
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.metrics import extractor_named
from gan_jax.networks import ProjectedCritic, ResNetGenerator, from_linen, projected_critic
from gan_jax.objectives import add_terms, label_condition, orthogonal_regularization
from gan_jax.objectives.hinge import hinge
from gan_jax.schedule import alternating
from tests import programs
from tests.tiers import full, slow

BATCH, CLASSES, LATENT = 16, 10, 8


def made_game(dtype=None):
    x, y, z = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, jnp.int32), jnp.zeros((2, LATENT))
    options = {"width": 16, "num_classes": CLASSES, "dtype": dtype}
    critic = ProjectedCritic(extractor_named("classifier:digits"), **options)
    generator = ResNetGenerator(size=8, channels=1, norm="batch+spectral", conditioning="shared", **options)
    objective = hinge(gaussian(LATENT), condition=label_condition)
    return Game(
        players={
            "critic": Player(projected_critic(critic, x, y), optax.sgd(0.02)),
            "generator": Player(from_linen(generator, z, y), optax.sgd(0.02), ema=0.9),
        },
        objective=add_terms(objective, orthogonal_regularization()),
        schedule=alternating(),
    )


def play(parallelism, devices):
    return programs.on_noise(made_game(), parallelism, devices, BATCH, CLASSES)(2)


@pytest.fixture(autouse=True)
def _compiled_fast(monkeypatch):
    monkeypatch.setattr(jit, "compiler_options", lambda *_: programs.UNOPTIMISED)


@pytest.mark.parametrize("parallelism", [full("jit"), slow("fsdp")])
def test_eight_devices_equal_one(parallelism):
    single, metrics = play("jit", 1)
    eight, metrics_of_eight = play(parallelism, 8)
    chex.assert_trees_all_close(
        jax.device_get([p.params for p in eight.players.values()]),
        jax.device_get([p.params for p in single.players.values()]),
        atol=5e-6,
    )
    chex.assert_trees_all_equal(
        jax.device_get(eight.players["critic"].model_state["projections"]),
        jax.device_get(single.players["critic"].model_state["projections"]),
    )
    chex.assert_trees_all_close(
        jax.device_get(metrics_of_eight), jax.device_get(metrics), atol=2e-5, rtol=2e-5
    )
