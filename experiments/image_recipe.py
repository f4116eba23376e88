"""The recipe for any images: what stands for the choices that a configuration leaves open, and R3GAN's schedules.

On an accelerator it is the recipe of Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024
(arXiv:2501.05441), with ADA's augmentations (Karras et al., 2020, arXiv:2006.06676) by the former's schedule. On a
CPU it is the one with the lowest Frechet distance after 15 minutes of a core, see `experiments/results`: a small
DCGAN (Radford et al., 2016, arXiv:1511.06434), the hinge loss (Lim and Ye, 2017, arXiv:1705.02894) and spectral
normalisation (Miyato et al., 2018, arXiv:1802.05957), in many rounds of small batches, and a critic that learns
twice as fast as the generator (two time scales: Heusel et al., 2017, arXiv:1706.08500).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax.functional.ada import ada, categories_of
from gan_jax.functional.augment import Chance, diff_augment
from gan_jax.game import InputTransform
from gan_jax.image_schedules import SCHEDULES, ImageSchedules, gamma_for
from gan_jax.network import Network
from gan_jax.networks import R3GANCritic, R3GANGenerator, from_linen
from gan_jax.networks.r3gan import stage_sizes
from gan_jax.training.experiment import ExperimentError, choose

from .configuration import DEFAULT
from .games import Blocks, Data, Struct, coder

PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}
AUTO = "auto"
"""The value of `network`, `objective`, `augment` and `precision` that stands for the recipe's."""
RECIPE = -1
"""The value of whole numbers, such as `width` and `batch_size`, that stands for the recipe's."""
NETWORKS = {"cpu": "dcgan", "accelerator": "r3gan"}
"""The networks where neither they nor an objective are chosen."""
OBJECTIVES = {"r3gan": "r3gan", "stylegan2": "stylegan2"}
"""The objectives of networks that have one of their own; others have the hinge loss."""


class Sizes(NamedTuple):
    """How large networks and batches are, how long a run is, and how often it logs, saves and samples.

    Attributes:
      width, widest: channels, see `images.get_config`.
      batch_size: B.
      rounds: of the run.
      log_every, checkpoint_every, sample_every: in rounds.
    """

    width: int = 32
    widest: int = 0
    batch_size: int = 64
    rounds: int = 8000
    log_every: int = 100
    checkpoint_every: int = 1000
    sample_every: int = 1000


SIZES: Mapping[tuple[str, str], Sizes] = {
    ("dcgan", "cpu"): Sizes(32, 0, 8, 100_000, 500, 10_000, 5_000),
    ("r3gan", "cpu"): Sizes(16, 64),
    ("r3gan", "accelerator"): Sizes(768, 768, 256),
}
"""The sizes by network and device: what two cores can train, R3GAN's with its paper's (batches as for FFHQ)."""
CRITIC_RATE = 4e-4
"""The learning rate of the critic in the recipe for a CPU, where the generator's is 2e-4."""
EMA_IMAGES = 10_000.0
"""The half-life of the moving average in images where `ema` is -1, that of Karras et al. (2020)."""
HALF_LIFE = 0.025
"""The half-life of the moving average as a share of the ramp: the paper's .5 of 20 million images, for FFHQ."""
AUGMENT = 0.3
"""The probability of augmentation at the end of the ramp: the paper's for FFHQ."""
COLORS = {"color": 0.5}
"""R3GAN halves the probabilities of ADA's changes of colour."""


def on_cpu() -> bool:
    """Whether the run is on a CPU, which decides on the recipe."""
    return jax.default_backend() == "cpu"


def resolve(config: Any) -> Any:
    """A copy of the configuration in which every choice that it leaves to the recipe is made.

    A network that is chosen decides on the objective, and the reverse; the device decides where neither is chosen.
    """
    config = config.copy_and_resolve_references()
    device = "cpu" if on_cpu() else "accelerator"
    left_open = config.network == config.objective == AUTO and not config.critic_norm
    if config.network == AUTO:
        config.network = NETWORKS[device] if left_open else OBJECTIVES.get(config.objective, "dcgan")
    if config.objective == AUTO:
        config.objective = OBJECTIVES.get(config.network, "hinge")
    if config.augment == AUTO:
        config.augment = "bgc" if config.objective == "r3gan" and device == "accelerator" else ""
    if config.precision == AUTO:
        config.precision = "float32" if device == "cpu" else "bfloat16"
    if config.objective != "r3gan" and config.ema == DEFAULT:
        config.ema_images = config.ema_images or EMA_IMAGES
    sizes = SIZES.get((config.network, device), Sizes())
    if config.width != RECIPE:
        sizes = sizes._replace(widest=0)
    for name, value in sizes._asdict().items():
        if config[name] == RECIPE:
            config[name] = value
    if config.critic_learning_rate == DEFAULT:
        recommended = left_open and device == "cpu" and not config.learning_rate
        config.critic_learning_rate = CRITIC_RATE if recommended else 0.0
    return config


def compute_type(config: Any) -> Any:
    """The dtype of the networks' computation, `None` for float32.

    Raises:
      ExperimentError: if there is no such precision.
    """
    return choose("precision", config.precision, PRECISIONS)


def schedules_of(config: Any, size: int) -> ImageSchedules | None:
    """The schedules of a configuration with `objective=r3gan`; `None` for other objectives.

    Args:
      config: `ramp` is the length of the ramps in images, `r1` gamma before the ramp, `learning_rate` Adam's.
      size: the side of the images in pixels.

    Raises:
      ExperimentError: if gamma is 0.
    """
    if config.objective != "r3gan":
        return None
    if config.r1 == 0:
        raise ExperimentError(
            "objective=r3gan is a game with two penalties, and r1=0 leaves them out: set a gamma above 0, or "
            "choose --config.objective=relativistic."
        )
    gamma = gamma_for(size) if config.r1 == DEFAULT else (config.r1, config.r1 / 10)
    paper = SCHEDULES["ffhq64"]
    rate = config.learning_rate or paper.learning_rate[0]
    return dataclasses.replace(
        paper,
        batch_size=config.batch_size,
        images=float(config.ramp),
        gamma=gamma,
        half_life=HALF_LIFE * config.ramp,
        augment=AUGMENT if config.probability == DEFAULT else config.probability,
        learning_rate=(rate, rate / 4),
    )


def augmentation(config: Any, schedules: ImageSchedules | None) -> list[InputTransform]:
    """The augmentation that is asked for: of a fixed probability, by ADA's controller, or by R3GAN's schedule.

    Raises:
      ExperimentError: if nothing is there to adapt or to apply.
    """
    given = config.probability != DEFAULT
    if not config.augment:
        if config.adaptive or given:
            field = "adaptive=true" if config.adaptive else f"probability={config.probability}"
            raise ExperimentError(
                f"{field} is about how often images are augmented, and augment is empty: set --config.augment=bgc, "
                "or color,translation,cutout."
            )
        return []
    if config.adaptive and given:
        raise ExperimentError(
            f"adaptive=true finds the probability of augmentation, and probability={config.probability} gives it: "
            "set one of them."
        )
    probability: Chance = config.probability if given else 1.0
    if config.adaptive:
        probability = "ada"
    elif schedules is not None:
        probability = schedules.probability()
    return [augment(config.augment, probability, colors=1.0 if schedules is None else COLORS["color"])]


def augment(names: str, probability: Chance, colors: float = 1.0) -> InputTransform:
    """DiffAugment's policies by name, or ADA's categories by their initials.

    >>> augment("bgc", 0.5).name, augment("color,cutout", 1.0).name
    ('ada', 'diff_augment')
    """
    if not set(names) <= set("bgcfn"):
        return diff_augment(names, probability)
    return ada(names, probability, multipliers={"color": colors} if "color" in categories_of(names) else {})


def notes_of(config: Any, norm: str, size: int, schedules: ImageSchedules | None) -> tuple[str, ...]:
    """What is said at the beginning of a run about choices that the configuration left open.

    Args:
      config: the configuration, resolved.
      norm: of the critic, where the network has no other.
      size: the side of the images in pixels.
      schedules: R3GAN's, `None` for other objectives.
    """
    if config.critic_features or config.network == "biggan":
        norm = config.critic_norm or "spectral"
    elif config.network in ("r3gan", "stylegan2"):
        norm = "none"
    rates = f"critic_learning_rate={config.critic_learning_rate}, " if config.critic_learning_rate else ""
    recipe = (
        f"Recipe: network={config.network} with width={config.width}, critic_norm={norm}, objective="
        f"{config.objective}, {rates}batch_size={config.batch_size}, precision={config.precision}."
    )
    if schedules is None:
        return (recipe,)
    start, end = schedules.gamma
    chosen = (
        f"by the images' size, {size} pixels: a power law through the paper's 2 at 64 pixels and 150 at 256, "
        "constant below 32; --config.r1 sets another"
        if config.r1 == DEFAULT
        else "as --config.r1 says"
    )
    images = config.rounds * config.batch_size
    notes = [
        recipe,
        f"R3GAN: gamma {start:.3g}, falling to {end:.3g}, {chosen}.",
        f"R3GAN: ramps of {schedules.images:,.0f} images where the paper has 20,000,000, and a moving average "
        f"with a half-life that grows to {schedules.half_life:,.0f} images.",
    ]
    if images < schedules.images:
        notes.append(
            f"R3GAN: the run ends after {images:,} images, before its ramps do: --config.ramp={images} fits them "
            "to it."
        )
    return tuple(notes)


def widths_of(config: Any, size: int) -> tuple[int, ...]:
    """The channels of R3GAN's stages, the smallest image first: doubled with each halving, up to `widest`.

    >>> import types
    >>> widths_of(types.SimpleNamespace(width=16, widest=48), 32)
    (48, 48, 32, 16)
    """
    most = max(config.width, config.widest)
    return tuple(min(config.width * 2**n, most) for n in reversed(range(len(stage_sizes(size)))))


def r3gans(config: Any, data: Data, norm: str) -> Blocks:
    """The networks of Huang et al. (2024), without any normalisation.

    Raises:
      ExperimentError: for attention, a critic's norm or a minibatch layer, which they do not have, or images that
        they do not take.
    """
    for field in ("attention", "critic_norm", "minibatch"):
        if config[field] not in (0, "", "none"):
            raise ExperimentError(
                f"{field}={config[field]} is for the other networks; those of --config.network=r3gan have none."
            )
    height, width = data.examples["x"].shape[1:3]
    others = "--config.network=dcgan takes such images, and --config.size resizes image files."
    if height != width:
        raise ExperimentError(f"R3GAN's networks take square images, got {height} x {width} pixels: {others}")
    try:
        widths = widths_of(config, height)
    except ValueError as error:
        raise ExperimentError(f"{error} {others}") from error
    shared: dict[str, Any] = {
        "width": widths,
        "blocks": config.blocks,
        "dtype": compute_type(config),
    }

    def critic(x: Struct, *labels: Struct, **heads: Any) -> Network:
        classes = data.classes("A conditional critic") if labels else None
        return from_linen(R3GANCritic(num_classes=classes, **shared, **heads), x, *labels)

    def generator(x: Struct, latent: Struct, *labels: Struct) -> Network:
        classes = data.classes("A conditional generator") if labels else None
        module = R3GANGenerator(size=x.shape[1], channels=x.shape[3], num_classes=classes, **shared)
        return from_linen(module, latent, *labels)

    return Blocks(critic, generator, coder(critic, generator, config.latent))
