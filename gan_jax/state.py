"""The states of players and of a run: arrays only, always pytrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax

from gan_jax.types import Array, Key, Tree


class PlayerState(NamedTuple):
    """All that belongs to one player.

    Attributes:
      params: the parameters that its optimiser updates.
      model_state: the network's mutable collections: running statistics, power-iteration vectors.
      opt_state: the state of its optimiser.
      objective_state: what its losses and terms carry from turn to turn, by name.
    """

    params: Tree
    model_state: Tree
    opt_state: Tree
    objective_state: dict[str, Tree]


Players: TypeAlias = Mapping[str, PlayerState]


class TrainState(NamedTuple):
    """The state of a run between two rounds.

    Attributes:
      step: rounds played, int32.
      cursor: batches consumed, int32.
      key: the run's PRNG key, which never changes: every draw folds in `step` and the turn's index.
      players: `{name: PlayerState}`.
      ema: `{name: (params, model_state)}` for the players that keep an average.
    """

    step: Array
    cursor: Array
    key: Key
    players: dict[str, PlayerState]
    ema: dict[str, tuple[Tree, Tree]]


def check_state(function: str, state: Any) -> None:
    """Checks that a state is one.

    Raises:
      ValueError: naming the function, what was given and what returns a state.
    """
    if not isinstance(state, TrainState):
        raise ValueError(
            f"{function} takes the state of a game, as init_state(game, key) returns it; got "
            f"{type(state).__name__}."
        )


def number_of_seeds(state: TrainState) -> int | None:
    """How many seeds a state is stacked of; `None` for the state of a single one."""
    single = 0 if jax.dtypes.issubdtype(state.key.dtype, jax.dtypes.prng_key) else 1
    return None if state.key.ndim == single else state.key.shape[0]


def with_player(players: Players, name: str, **changes: Any) -> dict[str, PlayerState]:
    """Returns `players` with fields of one player's state replaced."""
    return {**players, name: players[name]._replace(**changes)}
