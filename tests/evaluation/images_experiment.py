"""A tiny conditional run of images: every class has its own brightness."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from gan_jax.data import from_arrays
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import label_condition, non_saturating
from gan_jax.schedule import alternating
from gan_jax.training.experiment import Experiment

BATCH, CLASSES = 8, 2


def get_config():
    return ml_collections.ConfigDict({"rounds": 2, "parallelism": "jit", "size": 4})


def means(x):
    """A cheap extractor: the means of boxes, `[B, 16]`."""
    return x.reshape(len(x), 4, x.shape[1] // 4, 4, -1).mean(axis=(2, 4)).reshape(len(x), 16)


def images(number=64, seed=0, size=4):
    """Images `[N, size, size, 1]` uint8 and their classes `[N]`."""
    labels = np.arange(number) % CLASSES
    noise = np.random.default_rng(seed).normal(0, 20, (number, size, size, 1)).astype(np.float32)
    return np.clip(noise + 60 + 120 * labels[:, None, None, None], 0, 255).astype(np.uint8), labels


def build(config):
    size = config.size
    x, y = images(size=size)
    label = jnp.zeros(2, jnp.int32)
    critic = MLPCritic(widths=(4,), num_classes=CLASSES)
    generator = MLPGenerator(output_shape=(size, size, 1), widths=(8,), num_classes=CLASSES)
    game = Game(
        players={
            "critic": Player(from_linen(critic, jnp.zeros((2, size, size, 1)), label), optax.sgd(0.05)),
            "generator": Player(from_linen(generator, jnp.zeros((2, 3)), label), optax.sgd(0.05)),
        },
        objective=non_saturating.non_saturating(
            gaussian(3), condition=label_condition, critic_condition=label_condition
        ),
        schedule=alternating(),
    )
    return Experiment(
        game=game,
        source=from_arrays({"x": x, "y": y.astype(np.int32)}, BATCH, seed=1),
        seed=0,
        rounds=config.rounds,
        log_every=2,
        checkpoint_every=0,
        sample_every=0,
        parallelism=config.parallelism,
        picture=lambda samples: np.zeros((4, 4, 1), np.uint8),
        picture_samples=8,
        condition_batch=lambda n: {"y": np.arange(n, dtype=np.int32) % CLASSES},
        evaluation_samples=600,
        classes=("dark", "bright"),
    )
