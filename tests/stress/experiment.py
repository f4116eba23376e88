"""A run that does everything often: logs, saves, pictures, evaluations; for scripts that disturb it."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from gan_jax.data import from_arrays
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.pictures import figure, scatter, to_array
from gan_jax.schedule import alternating
from gan_jax.training.experiment import Experiment

SIZE, BATCH = 256, 16


def get_config():
    return ml_collections.ConfigDict(
        {
            "rounds": 600,
            "seed": 0,
            "seeds": 1,
            "stream": False,
            "parallelism": "jit",
            "checkpoint_every": 30,
        }
    )


def build(config):
    x = np.random.default_rng(0).normal(size=(SIZE, 2)).astype(np.float32)
    if config.stream:
        source = from_reader(array_reader({"x": x}), SIZE, BATCH, seed=config.seed, workers=2)
    else:
        source = from_arrays({"x": x}, BATCH, seed=config.seed)
    networks = {
        "critic": from_linen(MLPCritic(widths=(8,)), jnp.zeros((2, 2))),
        "generator": from_linen(
            MLPGenerator(output_shape=(2,), widths=(8,), norm="batch"), jnp.zeros((2, 4))
        ),
    }
    game = Game(
        players={
            "critic": Player(networks["critic"], optax.adam(1e-3)),
            "generator": Player(networks["generator"], optax.adam(1e-3), ema=0.9),
        },
        objective=non_saturating(gaussian(4)),
        schedule=alternating(),
    )
    return Experiment(
        game=game,
        source=source,
        seed=config.seed,
        rounds=config.rounds,
        log_every=10,
        checkpoint_every=config.checkpoint_every,
        sample_every=70,
        evaluate_every=50,
        rounds_per_dispatch=25,
        parallelism=config.parallelism,
        picture=lambda samples: to_array(figure(scatter(samples, real=x), width=3.0)),
        picture_samples=50,
        evaluations={"mean": lambda samples: {"mean": float(samples.mean())}},
        evaluation_samples=64,
    )
