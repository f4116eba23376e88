"""A run without files, for notebooks: rounds in, state and history out."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from gan_jax.data.source import Source
from gan_jax.distributed.compiler import compiler_options
from gan_jax.functional.options import check_count, check_on_host
from gan_jax.game import Game
from gan_jax.schedule import fresh_turns
from gan_jax.state import TrainState
from gan_jax.training.rollout import rollout_program, stack_rounds
from gan_jax.types import Metrics, Tree

ROUNDS_PER_DISPATCH = 100


@functools.lru_cache(maxsize=32)
def _compiled(game: Game, source: Source) -> Callable[..., tuple[TrainState, Metrics]]:
    return jax.jit(rollout_program(game, source.get_batch), compiler_options=compiler_options())


@functools.lru_cache(maxsize=4)
def _on_device(source: Source) -> Tree:
    return jax.device_put(source.device_data)


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
      ValueError: if `rounds` or `per_dispatch` is no whole number of 1 or more, or the call is traced.
    """
    check_on_host("rollout", "call it outside, or make_train_step(game) on batches of your own there", state)
    check_count("rollout", "rounds", rounds)
    check_count("rollout", "per_dispatch", per_dispatch)
    program, turns = _compiled(game, source), fresh_turns(game.schedule)
    device_data = _on_device(source)
    cursor, histories = int(state.cursor), []
    for start in range(0, rounds, per_dispatch):
        n = min(per_dispatch, rounds - start)
        host_batches = stack_rounds(source, cursor, turns, n, per_dispatch)
        state, history = program(state, device_data, host_batches, np.int32(n))
        histories.append({name: np.asarray(values[:n]) for name, values in history.items()})
        cursor += n * turns
    return state, {name: np.concatenate([h[name] for h in histories]) for name in histories[0]}
