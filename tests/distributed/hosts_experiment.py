"""A tiny run for several processes: a stream that notes what it reads, SGD, batch normalisation."""

import dataclasses
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from gan_jax.data.stream import from_reader
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives.gan import gan
from gan_jax.schedule import alternating
from gan_jax.training.experiment import Experiment

SIZE, BATCH = 64, 8


def get_config():
    return ml_collections.ConfigDict({"rounds": 3, "checkpoint_every": 0, "notes": "", "parallelism": "jit"})


def read(indices, notes=""):
    """Examples by number; what was read is noted in a file for each process."""
    if notes:
        path = pathlib.Path(notes) / f"{jax.process_index()}-of-{jax.process_count()}-{os.getpid()}"
        with path.open("a") as file:
            file.write("".join(f"{i}\n" for i in indices))
    angle = 2 * np.pi * np.asarray(indices) / SIZE
    return {"x": np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)}


def build(config):
    game = Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=(4,)), jnp.zeros((2, 2))), optax.sgd(0.05)),
            "generator": Player(
                from_linen(MLPGenerator(output_shape=(2,), widths=(4,), norm="batch"), jnp.zeros((2, 3))),
                optax.sgd(0.05),
                ema=0.9,
            ),
        },
        objective=gan(gaussian(3)),
        schedule=alternating(),
    )
    source = from_reader(functools.partial(read, notes=config.notes), SIZE, BATCH, seed=1, ahead=0, workers=1)
    return Experiment(
        game=game,
        source=dataclasses.replace(source, fingerprint=None),  # only what is trained on is noted
        seed=0,
        rounds=config.rounds,
        log_every=3,
        checkpoint_every=config.checkpoint_every,
        sample_every=0,
        rounds_per_dispatch=2,
        parallelism=config.parallelism,
        picture=lambda samples: np.zeros((4, 4, 1), np.uint8),
        picture_samples=8,
    )
