"""Many rounds per dispatch, with data on the device and one program for every number of rounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.source import Source
from gan_jax.game import Diagnostic, Game
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState
from gan_jax.training.step import play_round
from gan_jax.types import Array, Batch, Metrics, Tree

Program: TypeAlias = Callable[[TrainState, Tree, Tree, Array], tuple[TrainState, Metrics]]


def rollout_program(
    game: Game,
    get_batch: Callable[[Tree, Tree], Batch],
    *,
    schedule: Schedule | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Program:
    """Up to K rounds as one pure function, to be jitted.

    All numbers of rounds n <= K, including one, use the same program, a `fori_loop` with a traced n. A single-step
    program and a scan differ in the last bits; with this program a run does not depend on where saves, logs and
    pictures interrupt it.

    Args:
      game: the game.
      get_batch: `Source.get_batch`, called for one batch at a time.
      schedule: the turns of a round; by default the game's.
      diagnostics: see `game.Diagnostic`.

    Returns:
      `(state, device_data, host_batches [K, T, ...], n) -> (state, metrics [K])`; metrics beyond n are zero.
    """
    schedule = game.schedule if schedule is None else schedule

    # Jitted, so that the metrics' shapes and the loop's body need one trace of a round; inlined, so that the
    # program is the loop's own.
    @functools.partial(jax.jit, inline=True)
    def play(
        i: Array | int, state: TrainState, device_data: Tree, host_batches: Tree
    ) -> tuple[TrainState, Metrics]:
        def batch_at(turn: Array | int) -> Batch:
            return get_batch(device_data, jax.tree.map(lambda x: x[i, turn], host_batches))

        return play_round(game, schedule, state, batch_at, diagnostics)

    def program(
        state: TrainState, device_data: Tree, host_batches: Tree, rounds: Array
    ) -> tuple[TrainState, Metrics]:
        capacity = jax.tree.leaves(host_batches)[0].shape[0]

        def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, history = carry
            state, metrics = play(i, state, device_data, host_batches)
            return state, {name: history[name].at[i].set(value) for name, value in metrics.items()}

        _, shapes = jax.eval_shape(play, 0, state, device_data, host_batches)
        history = {name: jnp.zeros((capacity, *m.shape), m.dtype) for name, m in shapes.items()}
        return jax.lax.fori_loop(0, rounds, body, (state, history))

    return program


def stack_rounds(source: Source, cursor: int, turns: int, rounds: int, capacity: int) -> Any:
    """The host batches for `rounds` rounds of `turns` batches, padded to `capacity` rounds: `[K, T, ...]`."""

    def arrange(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        return x.reshape(rounds, turns, *x.shape[1:])

    return padded(jax.tree.map(arrange, source.host_batches(cursor, rounds * turns)), capacity)


def padded(host_batches: Any, capacity: int) -> Any:
    """Host batches `[rounds, T, ...]` with zeros up to `capacity` rounds, `[K, T, ...]`."""

    def pad(x: np.ndarray) -> np.ndarray:
        missing = capacity - x.shape[0]
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    return jax.tree.map(pad, host_batches)
