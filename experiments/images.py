r"""Images: a recipe for the device, or the networks and the objective that are asked for.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python launch.py --config=experiments/images.py --workdir=runs/fashion
    python launch.py --config=experiments/images.py --config.data=FOLDER
    python launch.py --config=experiments/images.py --config.network=r3gan
    python launch.py --config=experiments/images.py --config.network=stylegan2 --config.augment=bgc \
        --config.adaptive=true
    python launch.py --config=experiments/images.py --config.objective=wgan_gp
    python launch.py --config=experiments/images.py --config.data=digits --config.network=resnet \
        --config.conditional=true

The first command makes TFDS's Fashion-MNIST of its raw files (Debian's package `dataset-fashion-mnist`); where
there is a network `--prepare` downloads any TFDS data set instead. An image folder (its sub-folders are the
labels), a `.zip`, parquet files, an `.npz` or any other `--config.data` is trained the same way;
`python -m gan_jax.data.check PATH` says beforehand what is found there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_collections

from gan_jax.data.augment import augmented
from gan_jax.evaluation.scoring import critic_features, extractor_named
from gan_jax.functional.priors import gaussian
from gan_jax.game import Objective
from gan_jax.image_schedules import ImageSchedules
from gan_jax.network import Network
from gan_jax.networks import (
    DCGANCritic,
    DCGANGenerator,
    ProjectedCritic,
    ResNetCritic,
    ResNetGenerator,
    StyleGAN2Critic,
    StyleGAN2Generator,
    from_linen,
    initializer,
    projected_critic,
    stylegan2_generator,
)
from gan_jax.networks.resnet import critic_sizes, generator_sizes
from gan_jax.objectives import adaptive_augmentation
from gan_jax.pictures.grids import image_grid
from gan_jax.training.experiment import Experiment, ExperimentError, choose

from .batches import held_out_note, hold_out, load_images, size_of, source_of
from .configuration import DEFAULT, check_sizes, grouped, image_config, logging_fields, run_fields
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
from .image_recipe import (
    AUTO,
    RECIPE,
    augmentation,
    compute_type,
    notes_of,
    r3gans,
    resolve,
    schedules_of,
)
from .image_scores import class_columns, conditional_fields, extractor_of


def get_config() -> ml_collections.ConfigDict:
    """The fields of `image_config`, and those of this experiment.

    The recipe: `auto`, and -1 for whole numbers, leave these to it (`experiments/image_recipe.py`). A run records
    what they stood for, and goes on with that on any device.
      network: `dcgan` (Radford et al., 2016), `resnet` (Miyato et al., 2018), `biggan` (Brock et al., 2019),
        `stylegan2` (Karras et al., 2020) or `r3gan` (Huang et al., 2024). By default that of the objective, and
        where neither is chosen `r3gan` on an accelerator and `dcgan` on a CPU, on which R3GAN's takes hours.
      objective: by default that of `r3gan` and `stylegan2`, and the hinge loss for other networks.
      width: channels next to the image: 16 for `r3gan` on a CPU, the paper's 768 in all its stages elsewhere, 32
        for other networks.
      critic_learning_rate: 4e-4 where network, objective and the generator's rate are left to the recipe on a CPU
        (two time scales: Heusel et al., 2017), else 0, the generator's.
      batch_size, rounds: 8 and 100,000 for `dcgan` on a CPU, 256 and 8,000 for `r3gan` on an accelerator, else 64
        and 8,000.
      log_every, checkpoint_every, sample_every: 500, 10,000 and 5,000 for `dcgan` on a CPU, else 100, 1,000 and
        1,000.
      augment: `bgc` for `objective=r3gan` on an accelerator, else nothing; see below.
      precision: bfloat16 on an accelerator, `float32` on a CPU.
    Networks:
      widest, blocks: for `r3gan`, the channels double with each halving up to `widest` (64 on a CPU), or stay where
        that is less than `width`; a stage has so many residual blocks, the paper 2.
      minibatch: how the critic compares the examples of a batch: `none`, `stddev` (in groups of 4: Karras et al.,
        2018) or `discrimination` (Salimans et al., 2016). `r3gan` has none, and `stylegan2` a layer of its own.
      critic_norm: `none`, `batch`, `spectral`, `layer` and so on, see `BaseCritic`. By default `none` where a term
        penalises the critic's gradient, `spectral` for the hinge loss and for `biggan`, else `batch`. `r3gan` and
        `stylegan2` have none.
      critic_features: of a frozen network (`classifier:DATA`, `vgg16:FILE`, `inception:FILE`), through which
        critics of `width` channels see the images (Sauer et al., 2021); scores by the same features are marked.
        Empty gives the critic the images.
      attention: the size at which a `resnet` or a `biggan` has self-attention.
      conditional: generator and critic are given the label.
      latent: the size of z.
      ema: by default an average with a half-life of 10,000 images, and with `objective=r3gan` with one that ramps
        up; a number in [0, 1) is its decay in a round, 0 keeps none.
    Data and augmentation:
      size: to which images are resized; 0 keeps theirs.
      flip: mirrors half of the data.
      held_out: the share of the images that samples are scored against, and that the game is not trained on. By
        default a tenth of 5,000 images or more, 5,000 at most, and none of fewer, which are scored against the
        images of the training.
      augment: what DiffAugment does (`color,translation,cutout`), or the initials of ADA's categories (`bgcc`);
        empty is nothing.
      probability: of augmentation. By default 1, and with `objective=r3gan` a schedule that ramps from 0 to .3; a
        number is where it ends.
      adaptive: ADA's controller finds the probability, for objectives whose critic is calibrated.
      labelled: how many labelled examples semi-supervised objectives are given; 0 is ten of each class for
        `semi_supervised` and none for `cat_gan`.
      categories: how many classes CatGAN and InfoGAN look for; 0 is as many as the labels have.
    With `objective=r3gan`:
      ramp: the images over which gamma, the learning rate, beta2, the moving average and the augmentation follow
        half a cosine. The paper has 20 million. It does not follow `rounds`, so that a run can be continued.
      r1: gamma of both penalties at first, a tenth of it after the ramp; by default by the images' size.
    """
    return image_config(
        data="tfds:fashion_mnist",
        flip=False,
        held_out=DEFAULT,
        network=AUTO,
        objective=AUTO,
        width=RECIPE,
        widest=RECIPE,
        batch_size=RECIPE,
        rounds=RECIPE,
        log_every=RECIPE,
        checkpoint_every=RECIPE,
        sample_every=RECIPE,
        blocks=2,
        minibatch="none",
        critic_learning_rate=DEFAULT,
        critic_norm="",
        critic_features="",
        attention=0,
        conditional=False,
        precision=AUTO,
        latent=128,
        labelled=0,
        categories=0,
        augment=AUTO,
        probability=DEFAULT,
        adaptive=False,
        ramp=512_000,
        ema=DEFAULT,
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """A generator and a critic of images."""
    config = resolve(config)
    check_sizes(config)
    everything = load_images(config)
    images, held_out = hold_out(config, everything)
    arrays = images.arrays
    data, size = data_of(config.data, arrays), arrays["x"].shape[1]
    schedules = schedules_of(config, size)
    objective = image_objective(config, data, schedules)
    networks = choose(
        "network",
        config.network,
        {
            "dcgan": dcgans,
            "resnet": resnets,
            "biggan": biggans,
            "r3gan": r3gans,
            "stylegan2": stylegans,
        },
    )
    norm = norm_of_critic(config, objective)
    blocks = networks(config, data, norm)
    if config.critic_features:
        critic = projected(config, data)
        blocks = Blocks(critic, blocks.generator, coder(critic, blocks.generator, config.latent))
    source = source_of(config, arrays, data, objective)
    game = game_of(config, objective, data, blocks, source, learning_rate=2e-4, schedules=schedules)
    scale = max(1, 56 // size)
    given = critic_features(game)
    conditional = conditional_fields(config, arrays, data, objective, held_out, given)
    shown = class_columns(images.classes, conditional)
    return Experiment(
        game=game,
        source=augmented(source, "flip", seed=config.seed) if config.flip else source,
        **run_fields(config),
        **conditional,
        classes=images.classes,
        extractor=extractor_of(config.data, arrays["x"].shape[1:]),
        held_out=held_out,
        **logging_fields(config, game),
        **recipe_fields(config, 2e-4, schedules),
        picture=functools.partial(image_grid, **shown, gap=2, scale=scale),
        notes=(
            *everything.changes(),
            *held_out_note(images, held_out),
            *notes_of(config, norm, size, schedules),
        ),
    )


def image_objective(
    config: ml_collections.ConfigDict, data: Data, schedules: ImageSchedules | None = None
) -> Objective:
    """The objective with the augmentation that is asked for, and R3GAN's with the gamma of its schedules."""
    return objective_of(
        config,
        data,
        gaussian(config.latent),
        conditional=config.conditional,
        terms=[adaptive_augmentation()] if config.adaptive else [],
        transforms=augmentation(config, schedules),
        options={} if schedules is None else {"gamma": schedules.weight()},
    )


def norm_of_critic(config: ml_collections.ConfigDict, objective: Objective) -> str:
    """The critic's normalisation; see `get_config` for the default."""
    if config.critic_norm:
        return config.critic_norm
    if any(term.uncoupled_critic is not None for term in objective.terms):
        return "none"
    return "spectral" if config.objective == "hinge" else "batch"


def dcgans(config: ml_collections.ConfigDict, data: Data, norm: str) -> Blocks:
    """The networks of Radford et al. (2016).

    Raises:
      ExperimentError: if they are to have attention.
    """
    if config.attention:
        raise ExperimentError(
            f"attention={config.attention} is for --config.network=resnet; a DCGAN has none."
        )
    return blocks_of(config, data, norm, DCGANCritic, DCGANGenerator, {}, {}, {})


def resnets(config: ml_collections.ConfigDict, data: Data, norm: str) -> Blocks:
    """The networks of Miyato et al. (2018); with labels, a projection critic.

    Raises:
      ExperimentError: if they are to have attention at a size that no block has.
    """
    critic, generator = attention_of(config, data)
    return blocks_of(
        config,
        data,
        norm,
        ResNetCritic,
        ResNetGenerator,
        {"attention": critic},
        {"attention": generator},
        {"conditioning": "projection"},
    )


def biggans(config: ml_collections.ConfigDict, data: Data, norm: str) -> Blocks:
    """Residual networks with the conditioning, norms and initialisation of Brock et al. (2019).

    Labels are embedded once; each block's norms are given the embedding and a part of the latent. Generator and
    critic are normalised spectrally, the critic has the projection of a label, and kernels are orthogonal at first.

    Raises:
      ExperimentError: if they are to have attention at a size that no block has.
    """
    critic, generator = attention_of(config, data)
    init = {"kernel_init": initializer("orthogonal")}
    return blocks_of(
        config,
        data,
        config.critic_norm or "spectral",
        ResNetCritic,
        ResNetGenerator,
        {"attention": critic, **init},
        {"attention": generator, "conditioning": "shared", **init},
        {"conditioning": "projection"},
        generator_norm="batch+spectral",
    )


def attention_of(config: ml_collections.ConfigDict, data: Data) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a residual critic's and generator's blocks that attention follows.

    Raises:
      ExperimentError: if neither has one of the size that is asked for.
    """
    size = min(data.examples["x"].shape[1:3])
    sizes = {"generator": generator_sizes(size), "critic": critic_sizes(size)}
    if config.attention and not any(config.attention in blocks for blocks in sizes.values()):
        raise ExperimentError(
            f"attention={config.attention}, but the blocks' images are {sizes['generator']} pixels wide in the "
            f"generator, {sizes['critic']} in the critic."
        )
    critic, generator = (
        tuple(n for n in sizes[player] if n == config.attention) for player in ("critic", "generator")
    )
    return critic, generator


def stylegans(config: ml_collections.ConfigDict, data: Data, norm: str) -> Blocks:
    """The networks of Karras et al. (2020); with labels, a projection critic.

    The critic compares the examples of its batch unless a term forbids that.

    Raises:
      ExperimentError: if they are to have attention, a norm or another minibatch layer.
    """
    for field in ("attention", "critic_norm", "minibatch"):
        if config[field] not in (0, "", "none"):
            own = "have a minibatch layer of their own" if field == "minibatch" else "have none"
            raise ExperimentError(
                f"{field}={config[field]} is for the other networks; those of --config.network=stylegan2 {own}: "
                "leave it out."
            )
    shared = {"width": config.width, "dtype": compute_type(config)}

    def critic(x: Struct, *labels: Struct, **heads: Any) -> Network:
        classes = data.classes("A conditional critic") if labels else None
        minibatch = "none" if norm == "none" else "stddev"
        module = StyleGAN2Critic(minibatch=minibatch, num_classes=classes, **shared, **heads)
        return from_linen(module, x, *labels)

    def generator(x: Struct, latent: Struct, *labels: Struct) -> Network:
        classes = data.classes("A conditional generator") if labels else None
        module = StyleGAN2Generator(
            size=x.shape[1:3], channels=x.shape[3], style=config.latent, num_classes=classes, **shared
        )
        return stylegan2_generator(module, latent, *labels)

    return Blocks(critic, generator, coder(critic, generator, config.latent))


def blocks_of(
    config: ml_collections.ConfigDict,
    data: Data,
    critic_norm: str,
    critic_module: Any,
    generator_module: Any,
    critic_options: dict[str, Any],
    generator_options: dict[str, Any],
    labelled_options: dict[str, Any],
    *,
    generator_norm: str = "batch",
) -> Blocks:
    """Networks of two modules; an autoencoder's code is as long as the latent.

    Args:
      config: the configuration.
      data: the images and their labels.
      critic_norm: of the critic and of an autoencoder's decoder.
      critic_module, generator_module: classes of Flax modules.
      critic_options, generator_options: their options.
      labelled_options: further ones of a critic that is given labels.
      generator_norm: of the generator.
    """
    shared: dict[str, Any] = {
        "width": config.width,
        "dtype": compute_type(config),
    }

    def critic(x: Struct, *labels: Struct, **heads: Any) -> Network:
        conditional = (
            {"num_classes": data.classes("A conditional critic"), **labelled_options} if labels else {}
        )
        module = critic_module(
            norm=grouped(critic_norm, config),
            minibatch=config.minibatch,
            **critic_options,
            **shared,
            **conditional,
            **heads,
        )
        return from_linen(module, x, *labels)

    def generator(x: Struct, latent: Struct, *labels: Struct, norm: str = generator_norm) -> Network:
        module = generator_module(
            size=size_of(x),
            channels=x.shape[3],
            norm=grouped(norm, config),
            num_classes=data.classes("A conditional generator") if labels else None,
            **generator_options,
            **shared,
        )
        return from_linen(module, latent, *labels)

    decoder = functools.partial(generator, norm=critic_norm)
    return Blocks(critic, generator, coder(critic, decoder, config.latent))


def projected(config: ml_collections.ConfigDict, data: Data) -> Callable[..., Network]:
    """The critics of Sauer et al. (2021), which see images through `critic_features`.

    Raises:
      ExperimentError: for unknown features, a minibatch layer, or an objective whose critic has more than a score.
    """
    if config.minibatch != "none":
        raise ExperimentError(
            f"minibatch={config.minibatch} is for critics that see the images; those of critic_features have no "
            "such layer."
        )
    size = data.examples["x"].shape[1:]
    features = extractor_named(config.critic_features, size)

    def critic(x: Struct, *labels: Struct, **heads: Any) -> Network:
        if heads:
            raise ExperimentError(
                f"critic_features={config.critic_features} is for critics with a score alone, and the critic of "
                f"objective={config.objective} has {', '.join(sorted(heads))}."
            )
        module = ProjectedCritic(
            features,
            width=config.width,
            norm=grouped(config.critic_norm or "spectral", config),
            num_classes=data.classes("A conditional critic") if labels else None,
            dtype=compute_type(config),
        )
        try:
            return projected_critic(module, x, *labels)
        except ValueError as error:
            raise ExperimentError(f"critic_features={config.critic_features}: {error}") from error

    return critic
