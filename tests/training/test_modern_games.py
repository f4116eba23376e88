"""R3GAN's game, and BigGAN's against a projected critic, are resumed bit for bit and played in bf16."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.distributed import jit
from gan_jax.distributed.layout import make_layout
from gan_jax.functional.ada import ada
from gan_jax.objectives import with_transforms
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.training.step import init_state
from tests import programs
from tests.distributed import test_projected_sharded as projected
from tests.distributed import test_r3gan_sharded as r3gan
from tests.tiers import full


def r3gans(dtype=None):
    """Its game as it is trained: optimisers, gamma, average and augmentation by schedule."""
    game = r3gan.made_game(optimizer=r3gan.SCHEDULES.optimizer(), dtype=dtype)
    augmented = with_transforms(game.objective, ada("bgc", r3gan.SCHEDULES.probability()))
    return dataclasses.replace(game, objective=augmented)


GAMES = {"r3gan": (r3gans, r3gan), "projected": (projected.made_game, projected)}


@functools.cache
def player(name, dtype=None):
    make, module = GAMES[name]
    return programs.on_noise(make(dtype=dtype), "jit", 1, module.BATCH, module.CLASSES)


@pytest.fixture(autouse=True)
def _compiled_fast(monkeypatch):
    monkeypatch.setattr(jit, "compiler_options", lambda *_: programs.UNOPTIMISED)


@pytest.mark.parametrize("name", [full("r3gan"), full("projected")])
def test_it_is_resumed_bit_for_bit(name, tmp_path):
    """Three rounds at once, and two saved, restored and continued by one."""
    straight, _ = player(name)(3)
    state, _ = player(name)(2)
    chex.assert_tree_all_finite((straight.players, straight.ema))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, state, blocking=True)
        game, layout = GAMES[name][0](), make_layout("jit", jax.devices()[:1])
        target = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
        restored = checkpoints.restore(target, shardings=layout.shardings(target)).state
    continued, _ = player(name)(1, restored)
    chex.assert_trees_all_equal(
        jax.device_get((continued.players, continued.ema)), jax.device_get((straight.players, straight.ema))
    )


@pytest.mark.parametrize("name", [full("r3gan"), full("projected")])
def test_in_bfloat16_it_plays_nearly_the_same_and_parameters_stay_float32(name):
    (state, metrics), (_, exact) = player(name, jnp.bfloat16)(2), player(name)(2)
    chex.assert_tree_all_finite((state.players, metrics))
    leaves = jax.tree.leaves([player.params for player in state.players.values()])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    # bfloat16 has 8 bits, and there are some ten layers.
    for loss in ("critic/loss", "generator/loss"):
        np.testing.assert_allclose(metrics[loss], exact[loss], rtol=0.05, atol=0.05)
