r"""Image-to-image translation: from edges, silhouettes or any other picture to the picture itself.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python launch.py --config=experiments/translation.py --workdir=runs/edges
    python launch.py --config=experiments/translation.py --config.data=pairs:path/to/facades --config.size=256 \
        --config.layers=3 --config.width=64
    python launch.py --config=experiments/translation.py --config.objective=cycle_gan --config.data=edges:digits

`--config.data` is anything that gives pairs: `edges:` or `masks:` before any set of images, or `pairs:FOLDER` with
sub-folders A and B (or files that show A and B side by side). Pictures show, in threes, the given image, what the
generator makes of it, and the true one, all of pairs that were held back from training. CycleGAN translates in both
directions and is trained without pairs: A (`condition`) and B (`x`) are shuffled apart.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from gan_jax.data import decode, from_arrays
from gan_jax.data.augment import augmented
from gan_jax.data.derive import split_off
from gan_jax.data.subsample import subsample
from gan_jax.data.value_range import STANDARD
from gan_jax.evaluation.sample_measures import SampleMeasure
from gan_jax.evaluation.scoring import MOST_REAL, against
from gan_jax.game import GeneratorRole, Objective
from gan_jax.network import Network
from gan_jax.networks import PatchCritic, UNet, from_linen
from gan_jax.pictures.grids import image_grid
from gan_jax.runs.provenance import held_out_marks
from gan_jax.training.experiment import Evaluation, Experiment, ExperimentError, Picture

from .batches import load_data
from .configuration import (
    DEFAULT,
    check_sizes,
    grouped,
    image_config,
    logging_fields,
    run_fields,
)
from .games import Blocks, Struct, data_of, game_of, objective_of, recipe_fields
from .image_scores import evaluations_of, extractor_of

HELD_OUT = 1000


def get_config() -> ml_collections.ConfigDict:
    """The fields of `image_config`, and those of this experiment.

    `layers` are the strided ones of the critics (3 sees patches of 70 pixels), `norm` is that of all networks. `l1`
    is pix2pix's weight of the L1 loss, `cycle` and `identity` are CycleGAN's weights; -1 is the paper's.
    """
    return image_config(
        objective="pix2pix",
        data="edges:tfds:fashion_mnist",
        flip=False,
        width=32,
        layers=1,
        norm="batch",
        l1=DEFAULT,
        cycle=DEFAULT,
        identity=DEFAULT,
        rounds=4000,
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """U-Nets against critics of patches, in one direction (pix2pix) or in both (CycleGAN)."""
    check_sizes(config)
    pairs = load_pairs(config)
    training, held = split_off(pairs, min(HELD_OUT, len(pairs["x"]) // 5), seed=0)
    held = shuffled(held)  # pictures and small evaluations show the first of them, of data that may be sorted
    data = data_of(config.data, {name: pairs[name] for name in ("x", "condition")})
    objective = objective_of(config, data)
    shown = {name: training[name] for name in ("x", "condition")}
    if unpaired(objective):
        order = np.random.default_rng(0).permutation(len(shown["condition"]))
        shown["condition"] = shown["condition"][order]
    source = from_arrays(shown, config.batch_size, seed=config.seed, value_range=STANDARD)
    marks = held_out_marks({name: held[name] for name in shown})
    source = dataclasses.replace(source, fingerprint=lambda: marks)
    game = game_of(config, objective, data, patches_and_unets(config), source, learning_rate=2e-4)
    sides = {name: functools.partial(repeated, np.asarray(decode(jnp.asarray(held[name])))) for name in shown}
    return Experiment(
        game=game,
        source=augmented(source, "flip", seed=config.seed) if config.flip else source,
        **run_fields(config),
        condition_batch=lambda n: {name: side(n) for name, side in sides.items()},
        evaluations=evaluations(config, objective, training, sides),
        evaluation_samples=len(held["x"]),
        extractor=extractor_of(config.data, held["x"].shape[1:]) if not unpaired(objective) else "",
        **logging_fields(config, game),
        **recipe_fields(config, 2e-4),
        picture=pictures(objective, sides),
        picture_samples=40,
    )


def load_pairs(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """The pairs that the configuration's `data` names.

    Raises:
      ExperimentError: if there are none, or their two sides differ in size.
    """
    pairs = load_data(config).arrays
    if "condition" not in pairs:
        raise ExperimentError(
            f"{config.data!r} has no pairs: put edges: or masks: before it, or name pairs:FOLDER."
        )
    sides = {name: pairs[name].shape[1:3] for name in ("x", "condition")}
    if sides["x"] != sides["condition"]:
        raise ExperimentError(
            f"The images of a pair have one size; those of {config.data!r} are {sides['x']} for x and "
            f"{sides['condition']} for the condition."
        )
    return pairs


def shuffled(pairs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The pairs in a fixed order that does not depend on the data's."""
    order = np.random.default_rng([0, 1]).permutation(len(pairs["x"]))
    return {name: side[order] for name, side in pairs.items()}


def unpaired(objective: Objective) -> bool:
    """Whether each side of a pair is a domain of its own, which a generator imitates."""
    return len(objective.with_role(GeneratorRole)) > 1


def patches_and_unets(config: ml_collections.ConfigDict) -> Blocks:
    """Isola et al. (2017), with critics as large as `layers` says."""
    options: dict[str, Any] = {"width": config.width, "norm": grouped(config.norm, config)}

    def critic(x: Struct, *conditions: Struct) -> Network:
        return from_linen(PatchCritic(layers=config.layers, **options), x, *conditions)

    def generator(x: Struct, *inputs: Struct) -> Network:
        return from_linen(UNet(channels=x.shape[-1], **options), *inputs)

    return Blocks(critic, generator)


def source_side(target: str) -> str:
    """The side of a pair that is translated into the other."""
    return "condition" if target == "x" else "x"


def targets(objective: Objective) -> dict[str, str]:
    """What each generator makes: `x` or `condition`."""
    found = {}
    for name in objective.with_role(GeneratorRole):
        role = objective.players[name].role
        assert isinstance(role, GeneratorRole)
        found[name] = role.target
    return found


def pictures(objective: Objective, sides: dict[str, Any]) -> dict[str, Picture]:
    """Of each generator: what was given, what was made of it, and what is true."""

    def picture(target: str, samples: np.ndarray) -> np.ndarray:
        given, true = sides[source_side(target)](len(samples)), sides[target](len(samples))
        return threes(given, samples, true)

    return {name: functools.partial(picture, target) for name, target in targets(objective).items()}


def evaluations(
    config: ml_collections.ConfigDict,
    objective: Objective,
    training: dict[str, np.ndarray],
    sides: dict[str, Any],
) -> dict[str, Evaluation]:
    """Of each generator: L1 to the true images of pairs that were held back, and distances to real images."""

    def held_out(target: str) -> SampleMeasure:
        def errors(samples: np.ndarray) -> np.ndarray:
            return np.abs(samples - sides[target](len(samples))).mean(axis=(1, 2, 3))

        return SampleMeasure(errors, lambda found: {"l1": float(found.mean())})

    found: dict[str, Evaluation] = {}
    for name, target in targets(objective).items():
        prefix = f"{name}/" if unpaired(objective) else ""
        images = training[target]
        drawn = subsample(len(images), MOST_REAL, training.get("y"))
        scores: dict[str, Evaluation] = (
            evaluations_of(config, training)
            if target == "x"
            else {"scores": against(images[drawn], split=f"the conditions of {config.data}")}
        )
        judged: dict[str, Evaluation] = {"held_out": held_out(target), **scores}
        found |= {f"{prefix}{what}": evaluation for what, evaluation in judged.items()}
    return found


def repeated(images: np.ndarray, n: int) -> np.ndarray:
    """The first n images, from the first again where there are fewer."""
    return images[np.arange(n) % len(images)]


def threes(given: np.ndarray, made: np.ndarray, true: np.ndarray) -> np.ndarray:
    """A grid of four times what was given, what was made of it, and what is true, in each row."""
    channels = max(given.shape[-1], made.shape[-1])
    shown = [np.broadcast_to(x, (*x.shape[:3], channels)) for x in (given, made, true)]
    scale = max(1, 56 // made.shape[1])
    return image_grid(
        np.stack(shown, axis=1).reshape(-1, *shown[0].shape[1:]), columns=12, gap=2, scale=scale
    )
