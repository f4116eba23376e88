"""Standing statistics: running means and variances of a generator, computed again for the weights that it has.

The running statistics of batch normalisation are averages over the rounds behind, in which the weights were others,
and those of a moving average of the weights are averages of statistics, and not the statistics of the average.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.evaluation.sampling import generator_variables, generators_of
from gan_jax.functional.options import check_count, check_on_host
from gan_jax.functional.priors import draw_latents
from gan_jax.game import Game, GeneratorRole
from gan_jax.keys import named_key
from gan_jax.precision import at_highest_precision
from gan_jax.state import TrainState, with_player
from gan_jax.training.experiment import Experiment
from gan_jax.types import Array, Batch, Key, Tree

BATCH_SIZE = 64
_START = 2.0**20
_TOLERANCE = 1e-4


def has_statistics(game: Game, state: TrainState) -> bool:
    """Whether a generator has running statistics."""
    return any(
        any(jax.tree.leaves(game.players[name].network.running_statistics(state.players[name].model_state)))
        for name in generators_of(game)
    )


def standing_variables(
    experiment: Experiment, player: str, variables: tuple[Tree, Tree], batches: int
) -> tuple[Tree, Tree]:
    """A generator's `(params, model_state)` with standing statistics; see `standing_statistics`.

    Raises:
      ValueError: if it has no running statistics, or they cannot be computed again.
    """
    network = experiment.game.players[player].network
    if not any(jax.tree.leaves(network.running_statistics(variables[1]))):
        raise ValueError(f"{player!r} has no running statistics, which batch normalisation keeps.")
    conditions = experiment.evaluation_batch or experiment.condition_batch
    key = named_key(jax.random.key(experiment.seed), "standing")
    inputs = functools.partial(_inputs, experiment.game, player, key, batches, BATCH_SIZE, conditions)
    return variables[0], _recomputed(experiment.game, player, *variables, inputs, batches)


def standing_of(experiment: Experiment, state: TrainState, batches: int) -> TrainState:
    """The state of an experiment with standing statistics; see `standing_statistics`."""
    return standing_statistics(
        experiment.game,
        state,
        jax.random.key(experiment.seed),
        batches=batches,
        condition_batch=experiment.evaluation_batch or experiment.condition_batch,
    )


def standing_statistics(
    game: Game,
    state: TrainState,
    key: Key,
    *,
    batches: int = 16,
    batch_size: int = BATCH_SIZE,
    condition_batch: Callable[[int], Batch] = lambda n: {},
) -> TrainState:
    """The state with the generators' running statistics computed again, for their weights and moving averages.

    They become the means, over so many batches, of the statistics that each batch has where the generator trains.

    Args:
      game: the game.
      state: the state; of several seeds a single one's.
      key: a PRNG key, which determines the latents.
      batches: the number of batches.
      batch_size: the samples in a batch.
      condition_batch: as in `sampling.sample`; its rows are shuffled over the batches.

    Returns:
      The state with other running statistics, from which `sample` samples; a generator without them is as it was.

    Raises:
      ValueError: if a number is no whole number of 1 or more, the call is traced, or a network's running statistics
        are not averages of its batches' statistics, `m old + (1 - m) new`.

    References:
      Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019, section 4.1 and
      appendix C ("standing statistics", arXiv:1809.11096).

    Example:
      >>> from gan_jax.networks import MLPGenerator, from_linen
      >>> from gan_jax.functional.priors import gaussian
      >>> import gan_jax as gj, optax
      >>> generator = from_linen(MLPGenerator(output_shape=(2,), widths=(8,), norm="batch"), jnp.zeros((2, 3)))
      >>> critic = from_linen(gj.MLPCritic(widths=(8,)), jnp.zeros((1, 2)))
      >>> players = {"critic": gj.Player(critic, optax.sgd(0.1)), "generator": gj.Player(generator, optax.sgd(0.1))}
      >>> game = gj.Game(players=players, objective=gj.wgan(gaussian(3)), schedule=gj.alternating())
      >>> state = gj.init_state(game, jax.random.key(0))
      >>> standing = standing_statistics(game, state, jax.random.key(1), batches=4)
      >>> (mean,) = (x for x in jax.tree.leaves(standing.players["generator"].model_state) if abs(x).max() < 0.5)
      >>> mean.shape
      (8,)
    """
    check_on_host("standing_statistics", "call it outside", state, key)
    check_count("standing_statistics", "batches", batches)
    check_count("standing_statistics", "batch_size", batch_size)
    for player in generators_of(game):
        inputs = functools.partial(
            _inputs, game, player, named_key(key, "standing"), batches, batch_size, condition_batch
        )
        for ema in (False, True) if player in state.ema else (False,):
            params, model_state = generator_variables(state, player, ema)
            recomputed = _recomputed(game, player, params, model_state, inputs, batches)
            if ema:
                state = state._replace(ema={**state.ema, player: (params, recomputed)})
            else:
                state = state._replace(players=with_player(state.players, player, model_state=recomputed))
    return state


def _inputs(
    game: Game,
    player: str,
    key: Key,
    batches: int,
    batch_size: int,
    condition_batch: Callable[[int], Batch],
    place: int,
) -> tuple[tuple[Any, ...], Key]:
    """The generator's inputs for a batch, and the key of its call."""
    role = game.players[player].role
    assert isinstance(role, GeneratorRole)
    batch_key = jax.random.fold_in(key, place)
    # Labels may come class by class, and a batch of a single class has the statistics of that class.
    order = np.random.default_rng(0).permutation(batches * batch_size)
    rows = order[place * batch_size : (place + 1) * batch_size]
    conditions = role.condition(condition_batch(batches * batch_size))
    inputs = tuple(jax.tree.map(lambda x: np.asarray(x)[rows], conditions))
    if game.objective.prior is not None:
        inputs = (draw_latents(game.objective.prior, named_key(batch_key, "latent"), batch_size), *inputs)
    return inputs, named_key(batch_key, player)


def _recomputed(
    game: Game,
    player: str,
    params: Tree,
    model_state: Tree,
    inputs: Callable[[int], tuple[tuple[Any, ...], Key]],
    batches: int,
) -> Tree:
    """The model state with the means of the batches' statistics in place of the running ones."""
    network = game.players[player].network
    running = network.running_statistics(model_state)
    if not any(jax.tree.leaves(running)):
        return model_state
    step = _step(game, player)

    def after(start: float, place: int) -> Tree:
        found = step(params, model_state, np.float32(start), *inputs(place))
        return jax.tree.map(
            lambda is_running, x: np.asarray(x, np.float64) if is_running and _floats(x) else np.zeros(()),
            running,
            found,
        )

    # A statistic becomes m old + (1 - m) new; from where it gets to from two starts follow m and the batch's own.
    from_zero, from_start, from_twice = (after(start, 0) for start in (0.0, _START, 2 * _START))
    total = from_zero
    for place in range(1, batches):
        total = jax.tree.map(lambda x, y: x + y, total, after(0.0, place))

    def mean(
        is_running: bool,
        old: Array,
        zero: np.ndarray,
        start: np.ndarray,
        twice: np.ndarray,
        total: np.ndarray,
    ) -> Array:
        if not is_running or not _floats(old):
            return old
        kept = (start - zero) / _START
        if not np.allclose(twice - start, start - zero, rtol=_TOLERANCE, atol=_TOLERANCE * _START):
            raise ValueError(
                f"The running statistics of {player!r} are not averages m old + (1 - m) new of its batches' "
                "statistics, and cannot be computed again."
            )
        share = 1 - kept
        found = np.where(share > 1e-6, total / batches / np.maximum(share, 1e-6), np.asarray(old, np.float64))
        return jnp.asarray(found, old.dtype)

    return jax.tree.map(mean, running, model_state, from_zero, from_start, from_twice, total)


def _floats(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


@functools.lru_cache(maxsize=8)
def _step(game: Game, player: str) -> Callable[..., Tree]:
    network = game.players[player].network

    @jax.jit
    @at_highest_precision
    def step(params: Tree, model_state: Tree, start: Array, inputs: tuple[Any, ...], key: Key) -> Tree:
        running = network.running_statistics(model_state)
        begun = jax.tree.map(
            lambda is_running, x: jnp.full_like(x, start) if is_running and _floats(x) else x,
            running,
            model_state,
        )
        return network.apply(params, begun, *inputs, train=True, key=key)[1]

    return step
