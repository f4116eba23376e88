"""Samples of generators, and the pictures that experiments draw of them.

A state on several devices is sampled on all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gan_jax.distributed.mesh import mesh_of, replicated_on
from gan_jax.functional.options import check_count, check_key, check_on_host
from gan_jax.functional.priors import draw_latents
from gan_jax.game import Game, GeneratorRole
from gan_jax.keys import named_key
from gan_jax.network import check_latent_shape
from gan_jax.precision import at_highest_precision
from gan_jax.state import TrainState, check_state, number_of_seeds
from gan_jax.training.experiment import Experiment
from gan_jax.types import Array, Batch, Key, Tree

CHUNK = 1000
"""The number of latents drawn with the same key."""
BLOCK = 250
"""The number of samples that a device computes at once, fixed since rounding depends on it."""


def generator_variables(state: TrainState, player: str = "generator", ema: bool = True) -> tuple[Tree, Tree]:
    """A generator's `(params, model_state)`: with `ema` those of its moving average, if it keeps one.

    An average in float32 of parameters in less is given in their dtype.
    """
    raw = state.players[player].params, state.players[player].model_state
    if ema and player in state.ema:
        return jax.tree.map(
            lambda mean, leaf: mean if mean.dtype == leaf.dtype else mean.astype(leaf.dtype),
            state.ema[player],
            raw,
        )
    return raw


def generators_of(game: Game, player: str | None = None) -> tuple[str, ...]:
    """The names of the players that make samples, or only `player`.

    Raises:
      ValueError: if there is none, or `player` is not among them.
    """
    names = game.objective.with_role(GeneratorRole)
    if player is None:
        if not names:
            raise ValueError(f"No player of this game makes samples; its players are {sorted(game.players)}.")
        return names
    if player not in names:
        raise ValueError(f"The players that make samples are {', '.join(names)}; got {player!r}.")
    return (player,)


def _role(game: Game, player: str) -> GeneratorRole:
    role = game.players[player].role
    assert isinstance(role, GeneratorRole)
    return role


@functools.lru_cache(maxsize=32)
def sampler(game: Game, player: str, mesh: Mesh | None, kind: Any) -> Callable[..., Array]:
    """`(variables, key data, indices of the blocks, their inputs) -> samples`, one block per device.

    Every device runs the same program on its block, so that samples agree bit for bit on any number of devices:
    with 256 levels a rounding error can become a whole level.
    """

    network = game.players[player].network

    @at_highest_precision
    def block(variables: tuple[Tree, Tree], key_data: Array, index: Array, inputs: Any) -> Array:
        key = named_key(jax.random.wrap_key_data(key_data, impl=kind), player)
        block_key = jax.random.fold_in(key, index[0])
        return network.apply(*variables, *inputs, train=False, key=block_key)[0]

    if mesh is None:
        return jax.jit(block)
    replicated, sharded = PartitionSpec(), PartitionSpec(mesh.axis_names)
    blocks = jax.shard_map(
        block,
        mesh=mesh,
        in_specs=(replicated, replicated, sharded, sharded),
        out_specs=sharded,
        check_vma=False,
    )
    return jax.jit(blocks, out_shardings=replicated_on(mesh))


def sample(
    game: Game,
    state: TrainState,
    key: Key,
    n: int,
    *,
    player: str | None = None,
    ema: bool = True,
    condition_batch: Callable[[int], Batch] = lambda n: {},
) -> np.ndarray:
    """Samples of a generator in evaluation mode (running statistics, no noise in layers).

    Products have the highest precision on every platform, so that a checkpoint's samples hardly depend on it.

    Args:
      game: the game.
      state: the state with the generator's parameters; its devices compute equal parts of the samples.
      key: a PRNG key, which determines the latents for any parameters and devices.
      n: the number of samples, at least 1.
      player: the generator's name, if the game has several.
      ema: use the moving average of the parameters, if the generator keeps one.
      condition_batch: `n -> batch [n, ...]` from which the generator's condition is read: labels, images.

    Returns:
      `[n, ...]`, images in [-1, 1], or beyond it where the network ends without a tanh (R3GAN's, StyleGAN2's).

    Raises:
      ValueError: if `n` is no whole number of 1 or more, `key` or `state` is none, the state is of several seeds,
        `player` does not name a generator of the game, the prior's latent has another size than the generator's,
        or the call is traced.
    """
    blocks = sample_blocks(game, state, key, n, player=player, ema=ema, condition_batch=condition_batch)
    return np.concatenate(list(blocks))


def sample_blocks(
    game: Game,
    state: TrainState,
    key: Key,
    n: int,
    *,
    player: str | None = None,
    ema: bool = True,
    condition_batch: Callable[[int], Batch] = lambda n: {},
    start: int = 0,
    stop: int | None = None,
) -> Iterator[np.ndarray]:
    """The samples of `sample` in blocks `[B, ...]` of a few hundred a device, drawn as they are asked for.

    Args:
      game, state, key, n, player, ema, condition_batch: as in `sample`; the samples depend on n.
      start, stop: the first sample, and that behind the last; all n by default.

    Raises:
      ValueError: as `sample`.
    """
    check_on_host("sample", "call it outside, or the generator's network.apply there", state, key)
    check_count("sample", "n", n)
    check_key("sample", key)
    check_state("sample", state)
    seeds = number_of_seeds(state)
    if seeds is not None:
        raise ValueError(
            f"The state has {seeds} seeds, stacked: sample draws of one, state_of(state, 0) for the first."
        )
    names = generators_of(game, player)
    if len(names) > 1:
        raise ValueError(f"The game has several generators: pass player={' or '.join(map(repr, names))}.")
    (name,) = names
    mesh = mesh_of(state)
    variables, prior = generator_variables(state, name, ema), game.objective.prior
    draw = sampler(game, name, mesh, jax.random.key_impl(key))
    conditions = tuple(jax.tree.map(np.asarray, _role(game, name).condition(condition_batch(n))))
    latents = None if prior is None else _latents(prior, key, n)
    # All blocks have the same size, so that they share a program; the surplus of the last one is dropped.
    devices = 1 if mesh is None else mesh.size
    block_size = min(BLOCK, n)
    step = block_size * devices
    end = n if stop is None else min(stop, n)
    for first in range(start // step * step, end, step):
        rows = slice(first, min(first + step, n))
        inputs = jax.tree.map(lambda x: x[rows], conditions)  # noqa: B023
        if latents is not None:
            inputs = (latents(rows), *inputs)
            check_latent_shape(name, game.players[name].network, inputs)
        inputs = jax.tree.map(functools.partial(padded_rows, start=0, size=step), inputs)
        indices = np.arange(devices, dtype=np.int32) + first // block_size
        block = np.asarray(draw(variables, np.asarray(jax.random.key_data(key)), indices, inputs))
        yield block[max(start - first, 0) : min(end, rows.stop) - first]


def sample_labels(
    game: Game, player: str, n: int, condition_batch: Callable[[int], Batch]
) -> np.ndarray | None:
    """The classes `[n]` int that `sample` asks a generator for, or `None` if it is not asked for any.

    Args:
      game, player, n, condition_batch: as in `sample`.
    """
    batch = condition_batch(n)
    labels = np.asarray(batch["y"]) if "y" in batch else np.zeros(())
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return None
    conditions = _role(game, player).condition(batch)
    return labels if any(np.array_equal(condition, labels) for condition in conditions) else None


def _latents(prior: Callable[[Key, int], Tree], key: Key, n: int) -> Callable[[slice], Tree]:
    """Draws rows of `n` latents in a separate program, so that they do not depend on the devices."""

    @functools.lru_cache(maxsize=1)
    def chunk(start: int) -> Tree:
        chunk_key = named_key(jax.random.fold_in(key, start), "latent")
        drawn = draw_latents(prior, chunk_key, min(CHUNK, n - start))
        return jax.tree.map(np.asarray, drawn)

    def latents(rows: slice) -> Tree:
        parts = []
        for start in range(rows.start // CHUNK * CHUNK, rows.stop, CHUNK):
            part = slice(max(rows.start - start, 0), rows.stop - start)
            parts.append(jax.tree.map(lambda leaf: leaf[part], chunk(start)))  # noqa: B023
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return latents


def sample_shape(experiment: Experiment, state: TrainState, player: str | None = None) -> tuple[int, ...]:
    """The shape of a sample, for a state or the shapes of one; nothing is computed."""
    game = experiment.game
    name = generators_of(game, player)[0]

    def draw(state: TrainState, key: Key) -> Array:
        prior = game.objective.prior
        conditions = _role(game, name).condition(experiment.condition_batch(1))
        inputs = conditions if prior is None else (prior(key, 1), *conditions)
        variables = generator_variables(state, name)
        return game.players[name].network.apply(*variables, *inputs, train=False, key=key)[0]

    return jax.eval_shape(draw, state, jax.random.key(0)).shape[1:]


def padded_rows(x: np.ndarray, start: int, size: int) -> np.ndarray:
    """`size` rows of `x` from `start` on, where the last row of `x` is repeated beyond its end."""
    rows = x[start : start + size]
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def picture_name(generators: tuple[str, ...], player: str) -> str:
    """The name of a generator's pictures.

    >>> picture_name(("generator",), "generator"), picture_name(("a", "b"), "b")
    ('samples', 'samples_b')
    """
    return "samples" if len(generators) == 1 else f"samples_{player}"


def picture_samples(experiment: Experiment, state: TrainState, player: str) -> list[np.ndarray]:
    """The samples that a generator's pictures show, each `[picture_samples, ...]`, always of the same latents.

    Where the generator keeps a moving average, its samples are first and those of the weights themselves second,
    unless the two are equal.
    """
    samples = [
        sample(
            experiment.game,
            state,
            named_key(jax.random.key(experiment.seed), "picture"),
            experiment.picture_samples,
            player=player,
            ema=ema,
            condition_batch=experiment.condition_batch,
        )
        for ema in ((True, False) if player in state.ema else (False,))
    ]
    equal = all(np.array_equal(other, samples[0]) for other in samples[1:])
    return samples[:1] if equal else samples
