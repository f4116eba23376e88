"""Path lengths of a state's generators: in w, where a generator has a mapping network, else in z."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from gan_jax.evaluation.sampling import generator_variables
from gan_jax.game import GeneratorRole
from gan_jax.keys import named_key
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment, ExperimentError
from gan_jax.types import Array, Key, Tree

if TYPE_CHECKING:
    from gan_jax.metrics.path_length import PathLength


def path_length(
    experiment: Experiment,
    state: TrainState,
    distance: Callable[[Array, Array], Array],
    *,
    player: str = "generator",
    ema: bool = True,
    samples: int | None = None,
) -> PathLength:
    """The perceptual path length of a generator, see `gan_jax.metrics.perceptual_path_length`.

    Both ends of a path of a conditional generator have the same condition, one of those that evaluations ask for.

    Args:
      experiment: the experiment, whose seed determines the paths.
      state: the state.
      distance: of two batches of images, such as `lpips_distance(...)`.
      player: the generator's name.
      ema: use the moving average of the parameters, if the generator keeps one.
      samples: the number of paths; `evaluation_samples` by default.

    Raises:
      ExperimentError: for a generator without a latent, or whose latent is more than one array.
    """
    from gan_jax.metrics import perceptual_path_length

    game = experiment.game
    role, network, prior = game.players[player].role, game.players[player].network, game.objective.prior
    assert isinstance(role, GeneratorRole)
    if prior is None:
        raise ExperimentError(f"path_length is of generators of a latent, and {player} has none.")
    shape = jax.eval_shape(lambda key: prior(key, 1), jax.random.key(0))
    if len(jax.tree.leaves(shape)) != 1:
        raise ExperimentError(f"path_length is of generators whose latent is one array; got {shape}.")
    variables = jax.tree.map(_local, generator_variables(state, player, ema))

    number = experiment.evaluation_samples if samples is None else samples
    batch = (experiment.evaluation_batch or experiment.condition_batch)(number)

    def mapping(z: Array, *given: Array) -> Array:
        return z if network.halves is None else network.halves[0](*variables, z, *given)[0]

    def synthesis(w: Array, key: Key, *given: Array) -> Array:
        if network.halves is None:
            return network.apply(*variables, w, *given, train=False, key=key)[0]
        return network.halves[1](*variables, w, train=False, key=key)[0]

    try:
        return perceptual_path_length(
            mapping,
            synthesis,
            prior,
            distance,
            key=named_key(jax.random.key(experiment.seed), "path_length"),
            conditions=tuple(map(np.asarray, role.condition(batch))),
            samples=number,
        )
    except ValueError as error:
        raise ExperimentError(f"path_length: {error}") from error


def _local(leaf: Array) -> Tree:
    """The whole array on this process's default device."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return jax.numpy.asarray(np.asarray(leaf))
    from jax.experimental import multihost_utils

    return jax.numpy.asarray(multihost_utils.process_allgather(leaf, tiled=True))
