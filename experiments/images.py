r"""Square images: DCGANs and residual networks, conditional on labels where asked.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python launch.py --config=experiments/images.py --workdir=runs/fashion
    python launch.py --config=experiments/images.py --config.objective=wgan_gp --config.critic_norm=none
    python launch.py --config=experiments/images.py --config.objective=hinge --config.critic_norm=spectral
    python launch.py --config=experiments/images.py --config.data=digits --config.network=resnet \
        --config.conditional=true --config.objective=hinge --config.critic_norm=spectral

The first command makes TFDS's Fashion-MNIST of its raw files (Debian's package `dataset-fashion-mnist`); where
there is a network `--prepare` downloads any TFDS data set instead. An image folder (its sub-folders are the
labels), an `.npz` or any other `--config.data` is trained the same way.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.common import logging_fields, objective_of, play_of, run_fields, two_player_game
from experiments.image_scores import asked_for, evaluations_of, extractor_of
from gan_jax.data import load
from gan_jax.data.arrays import from_arrays
from gan_jax.data.augment import augmented
from gan_jax.functional.augment import diff_augment
from gan_jax.functional.priors import gaussian
from gan_jax.game import Objective
from gan_jax.network import Network
from gan_jax.networks import (
    DCGANCritic,
    DCGANGenerator,
    ResNetCritic,
    ResNetGenerator,
    from_linen,
)
from gan_jax.networks.resnet import critic_sizes, generator_sizes
from gan_jax.objectives import adaptive_augmentation, add_terms, label_condition, r1, with_transforms
from gan_jax.pictures.grids import image_grid
from gan_jax.training.experiment import Experiment, ExperimentError, choose

PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}
LOGIT_OBJECTIVES = ("gan", "non_saturating")
Networks = tuple[Network, Network]


def get_config() -> ml_collections.ConfigDict:
    """The knobs of this experiment; `n_critic` and `learning_rate` 0 are the objective's own.

    `critic_norm` is `none`, `batch`, `spectral`, `layer` and so on, see `networks.Critic`; `augment` is what
    DiffAugment does (`color,translation,cutout`), always or with ADA's probability (`adaptive`); `flip` mirrors
    the data.
    """
    return ml_collections.ConfigDict(
        {
            "data": "tfds:fashion_mnist",
            "size": 0,
            "flip": False,
            "network": "dcgan",
            "width": 32,
            "critic_norm": "batch",
            "attention": 0,
            "conditional": False,
            "precision": "float32",
            "latent": 128,
            "objective": "non_saturating",
            "unroll": 0,
            "n_critic": 0,
            "learning_rate": 0.0,
            "r1": 0.0,
            "augment": "",
            "adaptive": False,
            "ema": 0.999,
            "batch_size": 64,
            "seed": 0,
            "seeds": 1,
            "rounds": 8000,
            "log_every": 100,
            "checkpoint_every": 1000,
            "sample_every": 1000,
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
    """A generator and a critic of images."""
    arrays = load(config.data, size=config.size or None)
    shape, classes = arrays["x"].shape[1:], classes_of(config, arrays)
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ExperimentError(
            f"Here are trained square images [N, H, H, C]; {config.data!r} has examples {shape}."
        )
    source = from_arrays(
        {name: arrays[name] for name in (("x", "y") if classes else ("x",))},
        config.batch_size,
        seed=config.seed,
    )
    critic, generator = choose("network", config.network, {"dcgan": dcgans, "resnet": resnets})(
        config, shape, classes
    )
    game = two_player_game(
        config,
        image_objective(config, classes),
        critic=critic,
        generator=generator,
        play=play_of(config, learning_rate=2e-4),
    )
    labels = functools.partial(labels_in_turn, classes)
    return Experiment(
        game=game,
        source=augmented(source, "flip", seed=config.seed) if config.flip else source,
        **run_fields(config),
        condition_batch=(lambda n: {"y": labels(n)}) if classes else (lambda n: {}),
        evaluations=evaluations_of(config, arrays)
        | ({"asked": asked_for(config.data, arrays, labels)} if classes else {}),
        extractor=extractor_of(config.data),
        **logging_fields(config, game),
        picture=functools.partial(image_grid, columns=10, gap=2, scale=max(1, 56 // shape[0])),
    )


def classes_of(config: ml_collections.ConfigDict, arrays: dict[str, np.ndarray]) -> int | None:
    """How many classes a conditional game has; `None` where it is not conditional.

    Raises:
      ExperimentError: if the data have no labels, or what they have are none.
    """
    if not config.conditional:
        return None
    if "y" not in arrays:
        raise ExperimentError(f"conditional=true needs labels, and {config.data!r} has none.")
    labels = arrays["y"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ExperimentError(
            f"Labels are integers [N] from 0 on; those of {config.data!r} are {labels.dtype} {labels.shape}, "
            f"{labels.min()} to {labels.max()}."
        )
    return int(labels.max()) + 1


def labels_in_turn(classes: int | None, n: int) -> np.ndarray:
    """The labels `[n]` that samples to look at are drawn for: 0, 1, ... again and again."""
    return np.arange(n, dtype=np.int32) % (classes or 1)


def image_objective(config: ml_collections.ConfigDict, classes: int | None) -> Objective:
    """The objective with labels, the penalty and the augmentation that are asked for."""
    options: dict[str, Any] = {"condition": label_condition} if classes else {}
    objective = objective_of(config, gaussian(config.latent), **options)
    if config.r1 and config.objective in LOGIT_OBJECTIVES:
        objective = add_terms(objective, r1(config.r1))
    if config.adaptive:
        objective = add_terms(objective, adaptive_augmentation())
    if config.augment:
        objective = with_transforms(
            objective, diff_augment(config.augment, "ada" if config.adaptive else 1.0)
        )
    return objective


def dcgans(config: ml_collections.ConfigDict, shape: tuple[int, ...], classes: int | None) -> Networks:
    """Critic and generator of Radford et al. (2016)."""
    dtype = choose("precision", config.precision, PRECISIONS)
    critic = DCGANCritic(width=config.width, norm=config.critic_norm, num_classes=classes, dtype=dtype)
    generator = DCGANGenerator(
        size=shape[0], channels=shape[2], width=config.width, num_classes=classes, dtype=dtype
    )
    return built(config, critic, generator, shape, classes)


def resnets(config: ml_collections.ConfigDict, shape: tuple[int, ...], classes: int | None) -> Networks:
    """Critic and generator of Miyato et al. (2018); with labels, a projection critic.

    Attention follows the blocks of that size, in the player or the players that have one.

    Raises:
      ExperimentError: if neither has.
    """
    dtype = choose("precision", config.precision, PRECISIONS)
    sizes = {"generator": generator_sizes(shape[0]), "critic": critic_sizes(shape[0])}
    if config.attention and not any(config.attention in own for own in sizes.values()):
        raise ExperimentError(
            f"attention={config.attention}, but the blocks' images are {sizes['generator']} pixels wide in the "
            f"generator, {sizes['critic']} in the critic."
        )
    attention = {player: tuple(n for n in own if n == config.attention) for player, own in sizes.items()}
    shared: dict[str, Any] = {"width": config.width, "num_classes": classes, "dtype": dtype}
    critic = ResNetCritic(
        norm=config.critic_norm,
        conditioning="projection" if classes else "concat",
        attention=attention["critic"],
        **shared,
    )
    generator = ResNetGenerator(size=shape[0], channels=shape[2], attention=attention["generator"], **shared)
    return built(config, critic, generator, shape, classes)


def built(
    config: ml_collections.ConfigDict,
    critic: Any,
    generator: Any,
    shape: tuple[int, ...],
    classes: int | None,
) -> Networks:
    """The two modules as networks."""
    labels = (jnp.zeros(2, jnp.int32),) if classes else ()
    return (
        from_linen(critic, jnp.zeros((2, *shape)), *labels),
        from_linen(generator, jnp.zeros((2, config.latent)), *labels),
    )
