"""The fields that every experiment's configuration has, and what of an experiment is read straight off them."""

from __future__ import annotations

from typing import Any

import jax
import ml_collections

from gan_jax.diagnostics import DIAGNOSTICS, PROBES
from gan_jax.diagnostics.dynamics import check_small
from gan_jax.game import Game
from gan_jax.network import parameter_count
from gan_jax.training.experiment import ExperimentError, best_by, choose
from gan_jax.training.step import init_state

DEFAULT = -1.0
"""The value of `r1`, `r2` and the weights of losses that stands for the objective's default."""

RUN_FIELDS = {
    "seed": 0,
    "rounds": 8000,
    "log_every": 100,
    "checkpoint_every": 1000,
    "sample_every": 1000,
    "evaluate_every": 0,
    "parallelism": "jit",
    "matmul_precision": "default",
}
"""Fields of a configuration that are fields of `Experiment`."""


def base_config(**fields: Any) -> ml_collections.ConfigDict:
    """The fields that every experiment has, with their defaults; an experiment changes them and adds its own.

    How the game is played:
      objective: a key of `games.RECIPES`.
      n_critic, learning_rate: 0 is the objective's default.
      critic_learning_rate: of the critics, where it is another (two time scales: Heusel et al., 2017); 0 is
        `learning_rate`.
      unroll: how many turns of its critic a generator looks ahead.
      r1, r2: gamma of the zero-centred penalties on the critics' gradients at real and at fake examples; 0 is none,
        -1 the default.
      decay: of the learning rate, `constant`, `linear` or `cosine`, to 0 at round `decay_rounds`.
      warmup: rounds over which the learning rate rises first.
      ema: the decay of the moving average that generators are sampled from; 0 keeps none.
      ema_images: its half-life in images, in place of `ema`; 0 is none.
      ema_ramp: the half-life's largest share of the images so far; 0 has no ramp.
      batch_size: B.
    Memory for time:
      microbatches: parts of each batch that are played one after the other.
      approximate: do so also where their mean is not the batch's gradient.
      remat: compute the networks' activations again in the backward pass.
    Precision:
      matmul_precision: of products of float32 arrays in training: `default` is the platform's (TF32 on an NVIDIA
        GPU, bfloat16 on a TPU), `highest` float32's. Metrics, diagnostics and spectral norms have the highest in
        any case.
    The run: `seed`, `seeds`, `rounds`, `parallelism`, the intervals, and what is logged and kept.
    """
    common = {
        "objective": "non_saturating",
        "n_critic": 0,
        "learning_rate": 0.0,
        "critic_learning_rate": 0.0,
        "unroll": 0,
        "r1": DEFAULT,
        "r2": DEFAULT,
        "decay": "constant",
        "decay_rounds": 0,
        "warmup": 0,
        "ema": 0.0,
        "ema_images": 0.0,
        "ema_ramp": 0.05,
        "batch_size": 64,
        "microbatches": 1,
        "approximate": False,
        "remat": False,
        **RUN_FIELDS,
        "seeds": 1,
        "keep_best": "",
        "diagnostics": "health",
    }
    return ml_collections.ConfigDict({**common, **fields})


def image_config(**fields: Any) -> ml_collections.ConfigDict:
    """The fields of `base_config`, and those that every experiment with images has.

    What `data` names, and how it is read:
      size: the side that image files and TFDS are cropped and resized to; 0 is 64 for files and TFDS's own.
      height: of rectangles, whose width is `size`; 0 makes squares.
      channels: 1 or 3, with transparency 2 or 4; arrays may have any number. 0 is 1 where all images are grey, else
        3.
      label_file: a CSV file of the labels of image files, `FILE.csv` or `FILE.csv:COLUMN`.
      value_range: `low,high`, the values of black and white, as `0,1`; `standard` for [0, 255] in integers and
        [-1, 1] in floats; nothing recognises it, with a warning where it is another.
    Networks:
      batch_norm_groups: batch normalisations are by so many runs of neighbours in the batch, each with a mean and a
        variance of its own; with the number of devices, none waits for the statistics of others.
    """
    data = {"value_range": "", "size": 0, "height": 0, "channels": 0, "label_file": ""}
    return base_config(**{**data, "batch_norm_groups": 1, **fields})


def grouped(norm: str, config: Any) -> str:
    """A norm's name with the groups that a configuration asks for.

    >>> grouped("batch+spectral", ml_collections.ConfigDict({"batch_norm_groups": 4}))
    'batch:4+spectral'
    """
    groups = config.batch_norm_groups
    return norm if groups == 1 else "+".join(n + f":{groups}" * (n == "batch") for n in norm.split("+"))


AT_LEAST_1 = ("batch_norm_groups", "batch_size", "width", "latent", "modes", "microbatches", "blocks", "ramp")
"""Sizes that cannot be 0; the other whole numbers cannot be negative."""


def check_sizes(config: Any) -> None:
    """Checks the whole numbers of a configuration before anything is made of them.

    Raises:
      ExperimentError: naming the field that is too small, or microbatches that do not divide a batch.
    """
    for name, value in config.items():
        if type(value) is int and name not in RUN_FIELDS:
            least = 1 if name in AT_LEAST_1 else 0
            if value < least:
                raise ExperimentError(f"{name} is {least} or more, got {value}.")
    if config.batch_size % config.microbatches:
        raise ExperimentError(
            f"microbatches divide a batch, and {config.microbatches} does not divide batch_size="
            f"{config.batch_size}."
        )
    groups, batch = config.get("batch_norm_groups", 1), config.batch_size // config.microbatches
    if batch % groups:
        raise ExperimentError(
            f"batch_norm_groups={groups} does not divide a batch of {batch}: choose a divisor."
        )


def run_fields(config: Any) -> dict[str, Any]:
    """An experiment's seed, length, intervals and layout, fields of `Experiment`."""
    return {name: config[name] for name in RUN_FIELDS}


def logging_fields(config: Any, game: Game) -> dict[str, Any]:
    """What of an experiment is logged and kept: `diagnostics`, `probes` and `best`, fields of `Experiment`.

    Args:
      config: `diagnostics` names any of `DIAGNOSTICS` and `PROBES`, separated by commas; `keep_best` is read by
        `best_by`.
      game: the game in question.

    Raises:
      ExperimentError: if there is no such name.
      ValueError: if one of them does not suit the game.
    """
    names = [name.strip() for name in config.diagnostics.split(",") if name.strip()]
    for name in names:
        choose("diagnostic", name, {**DIAGNOSTICS, **PROBES})
    if "eigenvalues" in names:
        shapes = jax.eval_shape(lambda: init_state(game, jax.random.key(0)))
        check_small(sum(parameter_count(player.params) for player in shapes.players.values()))
    return {
        "diagnostics": [DIAGNOSTICS[name] for name in names if name in DIAGNOSTICS],
        "probes": [PROBES[name] for name in names if name in PROBES],
        "best": best_by(config.keep_best),
    }
