"""R3GAN's game on eight simulated devices: the single device's result, with parameters replicated or sharded."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from gan_jax.distributed import jit
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.image_schedules import ImageSchedules
from gan_jax.networks import R3GANCritic, R3GANGenerator, from_linen
from gan_jax.objectives import label_condition
from gan_jax.objectives.r3gan import r3gan
from gan_jax.schedule import alternating, turn
from tests import programs
from tests.tiers import slow

BATCH, CLASSES, LATENT = 16, 3, 4
SCHEDULES = ImageSchedules(batch_size=BATCH, images=64, gamma=(0.1, 0.01), half_life=16)


def made_game(width=16, optimizer=None, dtype=None):
    x, y, z = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, jnp.int32), jnp.zeros((2, LATENT))
    options = {"width": width, "blocks": 1, "group_size": 8, "num_classes": CLASSES, "dtype": dtype}
    critic, generator = R3GANCritic(**options), R3GANGenerator(size=8, channels=1, **options)
    optimizer = optimizer or optax.sgd(0.02)
    return Game(
        players={
            "critic": Player(from_linen(critic, x, y), optimizer),
            "generator": Player(from_linen(generator, z, y), optimizer, ema=SCHEDULES.average()),
        },
        objective=r3gan(gaussian(LATENT), gamma=SCHEDULES.weight(), condition=label_condition),
        schedule=alternating(),
    )


def play(parallelism, devices, width=16):
    return programs.on_noise(made_game(width), parallelism, devices, BATCH, CLASSES)(2)


@pytest.fixture(autouse=True)
def _compiled_fast(monkeypatch):
    monkeypatch.setattr(jit, "compiler_options", lambda *_: programs.UNOPTIMISED)


@pytest.mark.parametrize(("parallelism", "width"), [slow("jit", 16), slow("fsdp", 128)])
def test_eight_devices_equal_one(parallelism, width):
    single, metrics = play("jit", 1, width)
    eight, metrics_of_eight = play(parallelism, 8, width)
    chex.assert_trees_all_close(
        jax.device_get([p.params for p in eight.players.values()]),
        jax.device_get([p.params for p in single.players.values()]),
        atol=2e-6,
    )
    chex.assert_trees_all_close(jax.device_get(eight.ema), jax.device_get(single.ema), atol=2e-6)
    chex.assert_trees_all_close(
        jax.device_get(metrics_of_eight), jax.device_get(metrics), atol=1e-5, rtol=1e-5
    )
    if parallelism == "fsdp":
        kernel = eight.players["critic"].params["R3GANBlock_0"]["widen"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 8


@pytest.mark.full
def test_a_turn_of_the_critic_gathers_nothing():
    """Both penalties and both views of the critic: the gradients' all-reduce, and no whole batch on a device."""
    batch = {
        "x": jax.ShapeDtypeStruct((1, 208, 8, 8, 1), jnp.float32),
        "y": jax.ShapeDtypeStruct((1, 208), jnp.int32),
    }
    game = made_game(optimizer=SCHEDULES.optimizer())
    text = programs.compiled(game, (turn("critic"),), 8, batch).as_text()
    assert programs.collectives(text) == {"all-reduce": 1}
    assert not programs.has_dimension(text, 208)
