"""Path lengths of a model: of a run's generator, or of what was exported of one."""

from __future__ import annotations

from collections.abc import Callable

import jax

from gan_jax.functional.options import check_count
from gan_jax.keys import named_key
from gan_jax.metrics.path_length import SAMPLES, PathLength, perceptual_path_length
from gan_jax.models.model import Labels, Model
from gan_jax.models.portable import fixed_batch
from gan_jax.types import Array, Key

_BATCH = 16


def path_length(
    model: Model,
    distance: Callable[[Array, Array], Array],
    *,
    samples: int = SAMPLES,
    labels: Labels | None = None,
    seed: int | None = None,
) -> PathLength:
    """The perceptual path length of a model: in w for a generator with a mapping network, else in z.

    See `gan_jax.metrics.perceptual_path_length` for the measure, its time and its memory.

    Args:
      model: as `load_model` returns it.
      distance: of two batches of images: `gan_jax.metrics.lpips_distance(...)` for the published measure, or any
        other, such as `gan_jax.metrics.feature_distance(...)`.
      samples: the number of paths.
      labels: a class by its number or its name, or one for each path, the same at both of its ends; the classes in
        turn by default.
      seed: determines the paths; the run's by default.

    Raises:
      ValueError: for a generator of anything but one latent array and a label, or as `perceptual_path_length`.
    """
    check_count("path_length", "samples", samples, least=2)
    if not isinstance(model, Model):
        raise ValueError(f"path_length takes a Model, as load_model returns it; got {type(model).__name__}.")
    programs, player = model.programs, model.player
    if programs.latent is None or len(jax.tree.leaves(model.generator.inputs[0])) != 1:
        raise ValueError(
            f"path_length is of generators of one latent array, and {player}'s input is another."
        )
    drawn = programs.latent
    mapped = player in programs.mappings
    weights = jax.device_put(dict(model.weights[player]))
    synthesizes = programs.syntheses[player] if mapped else model.generator

    def latents(key: Key, number: int) -> Array:
        return drawn(jax.random.key_data(key))[:number]

    def mapping(z: Array, *given: Array) -> Array:
        if not mapped:
            return z
        # A mapping network draws nothing; its program takes a key as every program does.
        return programs.mappings[player].call(weights, jax.random.key_data(jax.random.key(0)), z, *given)

    def synthesis(w: Array, key: Key, *given: Array) -> Array:
        return synthesizes.call(weights, jax.random.key_data(key), w, *(() if mapped else given))

    return perceptual_path_length(
        mapping,
        synthesis,
        latents,
        distance,
        key=named_key(jax.random.key(model.seed if seed is None else seed), "path_length"),
        conditions=model.condition_rows(samples, labels),
        samples=samples,
        batch_size=fixed_batch(model.generator) or _BATCH,
    )
