"""Many rounds per dispatch: data that lives on the device, one program for every number of rounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.source import Source
from gan_jax.game import Game, Schedule, TrainState, fresh_turns
from gan_jax.training.compiler import compiler_options
from gan_jax.training.step import play_round
from gan_jax.types import Array, Batch, Diagnostic, Metrics, Tree

Program: TypeAlias = Callable[[TrainState, Tree, Tree, Array], tuple[TrainState, Metrics]]
ROUNDS_PER_DISPATCH = 100


def rollout_program(
    game: Game,
    fetch: Callable[[Tree, Tree], Batch],
    *,
    schedule: Schedule | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Program:
    """Up to K rounds as one pure function, to be jitted.

    Every number of rounds n <= K, one included, goes through this one program, `fori_loop` with a traced n: a
    single-step program and a scan differ in the last bits, this does not, so a run is the same wherever saves,
    logs and pictures cut it.

    Args:
      game: the game.
      fetch: `Source.fetch`, called for one batch at a time.
      schedule: the turns of a round; the game's own by default.
      diagnostics: see `types.Diagnostic`.

    Returns:
      `(state, resident, feed [K, T, ...], n) -> (state, metrics [K])`; metrics beyond n are zero.
    """
    schedule = game.schedule if schedule is None else schedule

    def program(state: TrainState, resident: Tree, feed: Tree, rounds: Array) -> tuple[TrainState, Metrics]:
        capacity = jax.tree.leaves(feed)[0].shape[0]

        def play(i: Array | int, state: TrainState) -> tuple[TrainState, Metrics]:
            def batch_at(turn: Array | int) -> Batch:
                return fetch(resident, jax.tree.map(lambda x: x[i, turn], feed))

            return play_round(game, schedule, state, batch_at, diagnostics)

        def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, history = carry
            state, metrics = play(i, state)
            return state, {name: history[name].at[i].set(value) for name, value in metrics.items()}

        _, shapes = jax.eval_shape(lambda s: play(0, s), state)
        history = {name: jnp.zeros((capacity, *m.shape), m.dtype) for name, m in shapes.items()}
        return jax.lax.fori_loop(0, rounds, body, (state, history))

    return program


def feed_rounds(source: Source, cursor: int, turns: int, rounds: int, capacity: int) -> Any:
    """What the host sends for `rounds` rounds of `turns` batches, padded to `capacity` rounds: `[K, T, ...]`."""

    def arrange(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        x = x.reshape(rounds, turns, *x.shape[1:])
        padding = np.zeros((capacity - rounds, *x.shape[1:]), x.dtype)
        return np.concatenate([x, padding]) if rounds < capacity else x

    return jax.tree.map(arrange, source.feed(cursor, rounds * turns))


@functools.lru_cache(maxsize=32)
def _compiled(game: Game, source: Source) -> Callable[..., tuple[TrainState, Metrics]]:
    return jax.jit(rollout_program(game, source.fetch), compiler_options=compiler_options())


@functools.lru_cache(maxsize=4)
def _on_device(source: Source) -> Tree:
    return jax.device_put(source.resident)


def rollout(
    game: Game,
    source: Source,
    state: TrainState,
    rounds: int,
    *,
    per_dispatch: int = ROUNDS_PER_DISPATCH,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Plays `rounds` rounds of the game's schedule, for notebooks: compiled once for a game and its data.

    Args:
      game: the game; its phases are the launcher's business and are not read here.
      source: the data.
      state: where to start; not donated.
      rounds: how many, at least 1.
      per_dispatch: K, rounds in one dispatch at most.

    Returns:
      The state after them, and every metric as an array `[rounds]`.

    Raises:
      ValueError: if `rounds` or `per_dispatch` is below 1.
    """
    if rounds < 1 or per_dispatch < 1:
        raise ValueError(f"rollout plays 1 or more rounds, got rounds={rounds}, per_dispatch={per_dispatch}.")
    program, turns = _compiled(game, source), fresh_turns(game.schedule)
    resident = _on_device(source)
    cursor, histories = int(state.cursor), []
    for start in range(0, rounds, per_dispatch):
        n = min(per_dispatch, rounds - start)
        feed = feed_rounds(source, cursor, turns, n, per_dispatch)
        state, history = program(state, resident, feed, np.int32(n))
        histories.append({name: np.asarray(values[:n]) for name, values in history.items()})
        cursor += n * turns
    return state, {name: np.concatenate([h[name] for h in histories]) for name in histories[0]}
