"""Eight Gaussians on a ring: the toy on which mode collapse is seen and counted.

    python launch.py --config=experiments/ring.py --workdir=runs/ring
    python launch.py --config=experiments/ring.py --config.objective=wgan_gp --config.unroll=5 --workdir=runs/gp

Setup of Metz et al. (2017), appendix A: radius 2, sigma .02, z of 256 dimensions, a generator of two and a critic
of one hidden layer of 128, orthogonal initialisation with gain .8, Adam(1e-4, b1 = .5), batch 512. 25,000 rounds
take a minute or two on two cores; without unrolling the generator finds one mode or two at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from gan_jax.data import toy
from gan_jax.data.arrays import gather, index_feed
from gan_jax.data.derive import split_labelled
from gan_jax.data.source import Source
from gan_jax.evaluation.sample_measures import SampleMeasure
from gan_jax.functional.priors import gaussian
from gan_jax.metrics.modes import mode_statistics
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.pictures import Picture, Row, figure, scatter, to_array
from gan_jax.training.experiment import Experiment
from gan_jax.types import Batch, Tree

from .batches import labels_by_share, labels_in_turn, repeated_to
from .configuration import base_config, check_sizes, logging_fields, run_fields
from .games import (
    Blocks,
    Data,
    Struct,
    coder,
    entries_of,
    game_of,
    labelled_per_class,
    objective_of,
    recipe_fields,
)

CODE_SIZE = 1
"""An autoencoder's code: the ring is a line."""


def get_config() -> ml_collections.ConfigDict:
    """The fields of `base_config`, and those of this experiment.

    The label of a point is its mode. `labelled` is how many labelled points semi-supervised objectives are given; 0
    is ten of each mode for `semi_supervised` and none for `cat_gan`. `categories` is how many classes CatGAN and
    InfoGAN look for; 0 is as many as there are modes.
    """
    return base_config(
        modes=8,
        latent=256,
        labelled=0,
        categories=0,
        batch_size=512,
        rounds=25000,
        log_every=500,
        checkpoint_every=5000,
        sample_every=5000,
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """The ring, a generator of points and a critic that sees them divided by 4."""
    check_sizes(config)
    ring = toy.ring(modes=config.modes)
    assert ring.means is not None
    assert isinstance(ring.sigma, float)
    examples = {"x": Struct((2, 2), jnp.float32), "y": Struct((2,), jnp.int32)}
    data = Data("the ring", examples, labels=np.arange(config.modes))
    objective = objective_of(config, data, gaussian(config.latent))
    per_class = labelled_per_class(config, data)
    source = toy.from_toy(
        ring, config.batch_size, seed=config.seed, labels="y" in entries_of(objective, data)
    )
    if per_class:
        source = with_labelled(source, ring, per_class, seed=config.seed)
    game = game_of(config, objective, data, points(config), source, learning_rate=1e-4)
    return Experiment(
        game=game,
        source=source,
        **run_fields(config),
        condition_batch=lambda n: {"y": labels_in_turn(config.modes, n)},
        evaluation_batch=lambda n: {"y": labels_by_share(np.arange(config.modes), n, seed=config.seed)},
        picture=functools.partial(drawn_points, real=np.asarray(ring.sample(jax.random.key(0), 1000))),
        picture_samples=1000,
        evaluations={"modes": modes_found(ring)},
        **logging_fields(config, game),
        **recipe_fields(config, 1e-4),
    )


def modes_found(ring: toy.Toy) -> SampleMeasure:
    """How samples spread over the modes."""
    assert ring.means is not None
    assert isinstance(ring.sigma, float)
    return SampleMeasure(
        lambda samples: samples,
        functools.partial(mode_statistics, means=ring.means, sigma=ring.sigma),
        {"high_quality_share": 1.0, "entropy": math.log(len(ring.means))},
    )


def drawn_points(samples: np.ndarray, real: np.ndarray) -> Picture:
    """Generated points over real ones."""
    return to_array(figure(Row((scatter(samples, real),), height=4.6), width=4.2))


def points(config: ml_collections.ConfigDict) -> Blocks:
    """Networks of points."""
    init = nn.initializers.orthogonal(0.8)

    def critic(x: Struct, **heads: Any) -> Network:
        module = MLPCritic(widths=(128,), activation="relu", input_scale=0.25, kernel_init=init, **heads)
        return from_linen(module, x)

    def generator(x: Struct, latent: Struct, *labels: Struct) -> Network:
        module = MLPGenerator(
            output_shape=x.shape[1:],
            widths=(128, 128),
            kernel_init=init,
            num_classes=config.modes if labels else None,
        )
        return from_linen(module, latent, *labels)

    return Blocks(critic, generator, coder(critic, generator, CODE_SIZE))


def with_labelled(source: Source, ring: toy.Toy, per_class: int, seed: int) -> Source:
    """The source with a labelled part in every batch, always of the same few points of each mode."""
    assert ring.sample_labelled is not None
    assert ring.means is not None
    # Ten times as many as are asked for: each mode has enough of them.
    x, y = ring.sample_labelled(jax.random.key(seed), 10 * (per_class + 10) * len(ring.means))
    chosen, _ = split_labelled({"x": np.asarray(x), "y": np.asarray(y)}, per_class, seed=seed)
    labelled = {name: repeated_to(array, source.batch_size) for name, array in chosen.items()}
    indices = index_feed(len(labelled["x"]), source.batch_size, seed, stream=1)

    def host_batches(cursor: int, count: int) -> dict[str, Any]:
        return {"all": source.host_batches(cursor, count), "labelled": indices(cursor, count)}

    def get_batch(device_data: Tree, host_batch: Tree) -> Batch:
        batch = source.get_batch(device_data["all"], host_batch["all"])
        return {**batch, "labelled": gather(device_data["labelled"], host_batch["labelled"])}

    return dataclasses.replace(
        source,
        host_batches=host_batches,
        get_batch=get_batch,
        device_data={"all": source.device_data, "labelled": labelled},
        for_device=lambda data: data,
    )
