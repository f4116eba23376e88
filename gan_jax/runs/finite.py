"""Checks that losses and parameters are finite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.diagnostics.alarms import NON_FINITE_HELPS
from gan_jax.runs.leaves import leaf_names
from gan_jax.state import TrainState
from gan_jax.types import Array


class NonFiniteError(RuntimeError):
    """A loss or a parameter is NaN or infinite; the message says whose, when, and what is saved.

    Attributes:
      step: the round.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class BrokenLeaf(NamedTuple):
    """A leaf of a player's state that is not finite; `seed` is `None` for a run of a single seed."""

    player: str
    leaf: str
    seed: int | None


@functools.partial(jax.jit, static_argnums=1)
def _finite(leaves: list[Array], kept_axes: int) -> list[Array]:
    """Whether each leaf is finite, over all its axes but the first `kept_axes`."""
    return [jnp.all(jnp.isfinite(x), axis=tuple(range(kept_axes, x.ndim))) for x in leaves]


def broken_leaf(state: TrainState, first_seed: int | None = None) -> BrokenLeaf | None:
    """The first of the players' parameters, states and moving averages that is not finite.

    Args:
      state: of one seed, or of several.
      first_seed: the first of several.

    Returns:
      The leaf; `None` if all are finite.
    """
    found: dict[tuple[str, str], Array] = {}
    for name, player in state.players.items():
        trees = {
            "params": player.params,
            "model_state": player.model_state,
            "objective_state": player.objective_state,
        }
        if name in state.ema:
            trees["ema"] = state.ema[name]
        for kind, tree in trees.items():  # in this order: an average is not finite because parameters are not
            for leaf, x in zip(leaf_names({kind: tree}), jax.tree.leaves(tree), strict=True):
                if jnp.issubdtype(x.dtype, jnp.floating):
                    found[name, leaf] = x
    # One program for all players: the first checkpoint waits for it.
    checked = jax.device_get(_finite(list(found.values()), 0 if first_seed is None else 1))
    for (name, leaf), finite in zip(found, checked, strict=True):
        if not finite.all():
            return BrokenLeaf(name, leaf, None if first_seed is None else first_seed + int(np.argmin(finite)))
    return None


def check_losses(
    history: Mapping[str, np.ndarray],
    start: int,
    saved: Callable[[], str],
    first_seed: int | None = None,
    leaf: Callable[[], str] = lambda: "",
) -> None:
    """Checks that every metric of every round is finite.

    Args:
      history: each metric, `[rounds, ...]`, of several seeds `[rounds, S, ...]`.
      start: the first of the rounds.
      saved: says what is saved, for the message.
      first_seed: the first of several seeds.
      leaf: says which parameter is not finite, for the message.

    Raises:
      NonFiniteError: naming the earliest round, its player and its metric.
    """
    broken = []
    for name, values in history.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            broken.append((int(np.argmin(finite)), name))
    if not broken:
        return
    place, name = min(broken)
    player, _, metric = name.partition("/")
    value, of_seed = history[name][place], ""
    if first_seed is not None:
        seed = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(axis=1)))
        value, of_seed = value[seed], f" of seed {first_seed + seed}"
    raise NonFiniteError(
        f"The {player}'s {metric}{of_seed} was {value} at round {start + place}.{leaf()} {saved()} "
        f"What usually helps: {NON_FINITE_HELPS}.",
        start + place,
    )


def check_state(state: TrainState, saved: Callable[[], str], first_seed: int | None = None) -> None:
    """Checks that all players' parameters, model states and objective states are finite before they are saved.

    Args:
      state: to be saved.
      saved: says what is saved, for the message.
      first_seed: the first of several seeds.

    Raises:
      NonFiniteError: naming the player and the leaf.
    """
    broken = broken_leaf(state, first_seed)
    if broken is not None:
        of_seed = "" if broken.seed is None else f" of seed {broken.seed}"
        raise NonFiniteError(
            f"The {broken.player}'s {broken.leaf}{of_seed} was not finite after round {int(state.step) - 1}. "
            f"{saved()} What usually helps: {NON_FINITE_HELPS}.",
            int(state.step),
        )
