r"""Image-to-image translation, pix2pix: from edges, silhouettes or any other picture to the picture itself.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python launch.py --config=experiments/translation.py --workdir=runs/edges
    python launch.py --config=experiments/translation.py --config.data=pairs:path/to/facades --config.size=256 \
        --config.layers=3 --config.width=64

`--config.data` is anything that gives pairs: `edges:` or `masks:` before any set of images, or `pairs:FOLDER` with
sub-folders A and B (or files that show A and B side by side). Pictures show, in threes, the given image, what the
generator makes of it, and the true one, all of pairs that were held back from training.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments.common import logging_fields, run_fields
from experiments.image_scores import evaluations_of, extractor_of
from gan_jax.data import decode, from_arrays, load
from gan_jax.data.augment import augmented
from gan_jax.data.derive import split_off
from gan_jax.field import accumulated
from gan_jax.game import Game, Player
from gan_jax.networks import PatchCritic, UNet, from_linen
from gan_jax.objectives.pix2pix import pix2pix
from gan_jax.pictures.grids import image_grid
from gan_jax.schedule import alternating
from gan_jax.training.experiment import Experiment, ExperimentError

HELD_OUT = 1000


def get_config() -> ml_collections.ConfigDict:
    """The knobs of this experiment; `layers` are the strided ones of the critic (3 sees patches of 70 pixels)."""
    return ml_collections.ConfigDict(
        {
            "data": "edges:tfds:fashion_mnist",
            "size": 0,
            "flip": False,
            "width": 32,
            "layers": 1,
            "norm": "batch",
            "l1": 100.0,
            "learning_rate": 2e-4,
            "batch_size": 64,
            "seed": 0,
            "seeds": 1,
            "rounds": 4000,
            "log_every": 100,
            "checkpoint_every": 1000,
            "sample_every": 1000,
            "evaluate_every": 0,
            "keep_best": "",
            "diagnostics": "health",
            "parallelism": "jit",
            "microbatches": 1,
            "approximate": False,
        }
    )


def build(config: ml_collections.ConfigDict) -> Experiment:
    """A U-Net against a critic of patches, with L1 between what is made and what is true."""
    pairs = load(config.data, size=config.size or None)
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
    training, held = split_off(pairs, min(HELD_OUT, len(pairs["x"]) // 5), seed=0)
    source = from_arrays(
        {name: training[name] for name in ("x", "condition")}, config.batch_size, seed=config.seed
    )
    game = game_of(config, training)
    given = functools.partial(repeated, np.asarray(decode(jnp.asarray(held["condition"]))))
    true = functools.partial(repeated, np.asarray(decode(jnp.asarray(held["x"]))))
    return Experiment(
        game=game,
        source=augmented(source, "flip", seed=config.seed) if config.flip else source,
        **run_fields(config),
        condition_batch=lambda n: {"condition": given(n)},
        evaluations={
            "held_out": lambda samples: {"l1": float(np.mean(np.abs(samples - true(len(samples)))))},
            **evaluations_of(config, training),
        },
        evaluation_samples=len(held["x"]),
        extractor=extractor_of(config.data),
        **logging_fields(config, game),
        picture=lambda samples: threes(given(len(samples)), samples, true(len(samples))),
        picture_samples=40,
    )


def game_of(config: ml_collections.ConfigDict, arrays: dict[str, np.ndarray]) -> Game:
    """Isola et al. (2017), with a critic as large as `layers` says."""
    x, condition = (jnp.zeros((2, *arrays[name].shape[1:])) for name in ("x", "condition"))
    adam = optax.adam(config.learning_rate, b1=0.5)
    options: dict[str, Any] = {"width": config.width, "norm": config.norm}
    several = config.microbatches > 1
    return Game(
        players={
            "critic": Player(from_linen(PatchCritic(layers=config.layers, **options), x, condition), adam),
            "generator": Player(from_linen(UNet(channels=x.shape[-1], **options), condition), adam),
        },
        objective=pix2pix(l1=config.l1),
        schedule=alternating(1),
        field=accumulated(config.microbatches, approximate=config.approximate) if several else None,
    )


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
