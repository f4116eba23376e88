"""Real handwritten digits, scikit-learn's 1,797 of 8 x 8 pixels: the default of `launch.py`.

    python launch.py

About half a minute on two cores; all ten digits, most of them readable. The same experiment learns any small
set of square images:

    python launch.py --config.data=mnist5k --workdir=runs/mnist            (with the extra `mnist`)
    python launch.py --config.data=path/to/images.npz --config.network=dcgan
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import ml_collections

from experiments.common import logging_fields, objective_of, play_of, run_fields, two_player_game
from experiments.image_scores import evaluations_of, extractor_of
from gan_jax.data import from_arrays, load
from gan_jax.functional.priors import gaussian
from gan_jax.networks import DCGANCritic, DCGANGenerator, MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import add_terms, r1
from gan_jax.pictures.grids import image_grid
from gan_jax.training.experiment import Experiment, choose

LOGIT_OBJECTIVES = ("gan", "non_saturating")


def get_config() -> ml_collections.ConfigDict:
    """The knobs of this experiment; `n_critic` and `learning_rate` 0 are the objective's own."""
    return ml_collections.ConfigDict(
        {
            "data": "digits",
            "network": "mlp",
            "width": 256,
            "latent": 32,
            "objective": "non_saturating",
            "unroll": 0,
            "n_critic": 0,
            "learning_rate": 0.0,
            "r1": 1.0,
            "ema": 0.995,
            "batch_size": 64,
            "seed": 0,
            "seeds": 1,
            "rounds": 8000,
            "log_every": 200,
            "checkpoint_every": 2000,
            "sample_every": 2000,
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
    """A generator and a critic of images, MLPs or DCGANs."""
    arrays = load(config.data)
    source = from_arrays({"x": arrays["x"]}, config.batch_size, seed=config.seed)
    networks = {"mlp": mlps, "dcgan": dcgans}
    critic, generator = choose("network", config.network, networks)(config, arrays["x"].shape[1:])

    objective = objective_of(config, gaussian(config.latent))
    if config.r1 and config.objective in LOGIT_OBJECTIVES:
        objective = add_terms(objective, r1(config.r1))
    game = two_player_game(
        config,
        objective,
        critic=critic,
        generator=generator,
        play=play_of(config, learning_rate=5e-4),
    )
    scale = max(1, 48 // arrays["x"].shape[1])
    return Experiment(
        game=game,
        source=source,
        **run_fields(config),
        evaluations=evaluations_of(config, arrays),
        extractor=extractor_of(config.data),
        **logging_fields(config, game),
        picture=functools.partial(image_grid, columns=10, gap=2, scale=scale, smooth=True),
    )


def mlps(config: ml_collections.ConfigDict, shape: tuple[int, ...]) -> tuple:
    """Critic and generator with two hidden layers."""
    widths = (config.width, config.width)
    critic = from_linen(MLPCritic(widths=widths), jnp.zeros((2, *shape)))
    generator = from_linen(
        MLPGenerator(output_shape=shape, widths=widths, norm="batch", output_activation="tanh"),
        jnp.zeros((2, config.latent)),
    )
    return critic, generator


def dcgans(config: ml_collections.ConfigDict, shape: tuple[int, ...]) -> tuple:
    """Critic and generator of Radford et al. (2016), the critic without batch normalisation."""
    critic = from_linen(DCGANCritic(width=config.width, norm="none"), jnp.zeros((2, *shape)))
    generator = from_linen(
        DCGANGenerator(size=shape[0], channels=shape[2], width=config.width),
        jnp.zeros((2, config.latent)),
    )
    return critic, generator
