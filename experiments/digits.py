"""Real handwritten digits, scikit-learn's 1,797 of 8 x 8 pixels: the default of `launch.py`.

    python launch.py

About half a minute on two cores; all ten digits, most of them readable. The same experiment learns any small
set of images, by any objective that makes images of latents:

    python launch.py --config.data=mnist5k --workdir=runs/mnist            (with the extra `mnist`)
    python launch.py --config.data=path/to/images.npz --config.network=dcgan
    python launch.py --config.objective=semi_supervised --config.labelled=100
"""

from __future__ import annotations

import functools
from typing import Any

import ml_collections

from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.networks import DCGANCritic, DCGANGenerator, MLPCritic, MLPGenerator, from_linen
from gan_jax.pictures.grids import image_grid
from gan_jax.training.experiment import Experiment, choose

from .batches import load_images, size_of, source_of
from .configuration import check_sizes, grouped, image_config, logging_fields, run_fields
from .games import (
    Blocks,
    Data,
    Struct,
    coder,
    data_of,
    game_of,
    objective_of,
    recipe_fields,
)
from .image_scores import class_columns, conditional_fields, extractor_of


def get_config() -> ml_collections.ConfigDict:
    """The fields of `image_config`, and those of this experiment.

    `r1` is by default 1 where scores are log-odds and no other term is of the critic's gradient, else 0.
    `labelled` is how many labelled examples semi-supervised objectives are given; 0 is ten of each class for
    `semi_supervised` and none for `cat_gan`. `categories` is how many classes CatGAN and InfoGAN look for; 0 is as
    many as the labels have.
    """
    return image_config(
        data="digits",
        network="mlp",
        width=256,
        latent=32,
        labelled=0,
        categories=0,
        ema=0.995,
        log_every=200,
        checkpoint_every=2000,
        sample_every=2000,
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """A generator and a critic of images, MLPs or DCGANs."""
    check_sizes(config)
    images = load_images(config)
    arrays = images.arrays
    data = data_of(config.data, arrays)
    objective = objective_of(config, data, gaussian(config.latent), r1_default=1.0)
    blocks = choose("network", config.network, {"mlp": mlps, "dcgan": dcgans})(config, data)
    source = source_of(config, arrays, data, objective)
    game = game_of(config, objective, data, blocks, source, learning_rate=5e-4)
    scale = max(1, 48 // arrays["x"].shape[1])
    conditional = conditional_fields(config, arrays, data, objective)
    shown = class_columns(images.classes, conditional)
    return Experiment(
        game=game,
        source=source,
        **run_fields(config),
        **conditional,
        classes=images.classes,
        extractor=extractor_of(config.data, arrays["x"].shape[1:]),
        **logging_fields(config, game),
        **recipe_fields(config, 5e-4),
        picture=functools.partial(image_grid, **shown, gap=2, scale=scale, smooth=True),
        notes=images.changes(),
    )


def mlps(config: ml_collections.ConfigDict, data: Data) -> Blocks:
    """Networks with two hidden layers; an autoencoder's code is as long as the latent."""
    widths = (config.width, config.width)

    def critic(x: Struct, **heads: Any) -> Network:
        return from_linen(MLPCritic(widths=widths, **heads), x)

    def generator(x: Struct, latent: Struct, *labels: Struct, norm: str = "batch") -> Network:
        module = MLPGenerator(
            output_shape=x.shape[1:],
            widths=widths,
            norm=grouped(norm, config),
            output_activation="tanh",
            num_classes=data.classes("A conditional generator") if labels else None,
        )
        return from_linen(module, latent, *labels)

    decoder = functools.partial(generator, norm="none")
    return Blocks(critic, generator, coder(critic, decoder, config.latent))


def dcgans(config: ml_collections.ConfigDict, data: Data) -> Blocks:
    """The networks of Radford et al. (2016), the critic without batch normalisation."""

    def critic(x: Struct, **heads: Any) -> Network:
        return from_linen(DCGANCritic(width=config.width, norm="none", **heads), x)

    def generator(x: Struct, latent: Struct, *labels: Struct, norm: str = "batch") -> Network:
        module = DCGANGenerator(
            size=size_of(x),
            channels=x.shape[3],
            width=config.width,
            norm=grouped(norm, config),
            num_classes=data.classes("A conditional generator") if labels else None,
        )
        return from_linen(module, latent, *labels)

    decoder = functools.partial(generator, norm="none")
    return Blocks(critic, generator, coder(critic, decoder, config.latent))
