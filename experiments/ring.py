"""Eight Gaussians on a ring: the toy on which mode collapse is seen and counted.

    python launch.py --config=experiments/ring.py --workdir=runs/ring
    python launch.py --config=experiments/ring.py --config.objective=wgan_gp --config.unroll=5 --workdir=runs/gp

Setup of Metz et al. (2017), appendix A: radius 2, sigma .02, z of 256 dimensions, a generator of two and a critic
of one hidden layer of 128, orthogonal initialisation with gain .8, Adam(1e-4, b1 = .5), batch 512. 25,000 rounds
take a minute or two on two cores; without unrolling the generator finds one mode or two at a time.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.common import logging_fields, objective_of, play_of, run_fields, two_player_game
from gan_jax.data import toy
from gan_jax.functional.priors import gaussian
from gan_jax.metrics.modes import mode_statistics
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.pictures import Picture, Row, figure, scatter, to_array
from gan_jax.training.experiment import Experiment


def get_config() -> ml_collections.ConfigDict:
    """The knobs of this experiment; `n_critic` and `learning_rate` 0 are the objective's own."""
    return ml_collections.ConfigDict(
        {
            "modes": 8,
            "latent": 256,
            "objective": "non_saturating",
            "unroll": 0,
            "n_critic": 0,
            "learning_rate": 0.0,
            "ema": 0.0,
            "batch_size": 512,
            "seed": 0,
            "seeds": 1,
            "rounds": 25000,
            "log_every": 500,
            "checkpoint_every": 5000,
            "sample_every": 5000,
            "evaluate_every": 0,
            "keep_best": "",
            "diagnostics": "health",
            "parallelism": "jit",
            "microbatches": 1,
            "approximate": False,
            "remat": False,
        }
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """The ring, a generator of points and a critic that sees them divided by 4."""
    ring = toy.ring(modes=config.modes)
    assert ring.means is not None
    assert isinstance(ring.sigma, float)
    init = nn.initializers.orthogonal(0.8)
    critic = from_linen(
        MLPCritic(widths=(128,), activation="relu", input_scale=0.25, kernel_init=init), jnp.zeros((2, 2))
    )
    generator = from_linen(
        MLPGenerator(output_shape=(2,), widths=(128, 128), kernel_init=init), jnp.zeros((2, config.latent))
    )
    game = two_player_game(
        config,
        objective_of(config, gaussian(config.latent)),
        critic=critic,
        generator=generator,
        play=play_of(config, learning_rate=1e-4),
    )
    return Experiment(
        game=game,
        source=toy.from_toy(ring, config.batch_size, seed=config.seed),
        **run_fields(config),
        picture=functools.partial(points, real=np.asarray(ring.sample(jax.random.key(0), 1000))),
        picture_samples=1000,
        evaluations={"modes": functools.partial(mode_statistics, means=ring.means, sigma=ring.sigma)},
        **logging_fields(config, game),
    )


def points(samples: np.ndarray, real: np.ndarray) -> Picture:
    """Generated points over real ones."""
    return to_array(figure(Row((scatter(samples, real),), height=4.6), width=4.2))
