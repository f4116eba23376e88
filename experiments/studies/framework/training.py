"""What studies that train have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.framework.study import Result
from gan_jax.data.source import Source
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective
from gan_jax.objectives import two_player
from gan_jax.runs.notebook import rollout
from gan_jax.state import TrainState
from gan_jax.training.step import init_state
from gan_jax.types import Array

BATCHES_A_SEED = 1 << 20
"""Seeds draw from one source, each from its own place: the compiled rounds serve all of them."""


def start(game: Game, seed: int) -> TrainState:
    """A fresh state whose draws, of parameters, latents and data, are the seed's own."""
    state = init_state(game, jax.random.key(seed))
    return state._replace(cursor=jnp.int32(seed * BATCHES_A_SEED))


def play(
    game: Game,
    source: Source,
    seed: int,
    rounds: int,
    *,
    every: int = 0,
    snapshot: Callable[[int, TrainState], Any] | None = None,
    state: TrainState | None = None,
) -> tuple[TrainState, list[Any]]:
    """Plays `rounds` rounds, with a snapshot before the first and after every `every`."""
    state = start(game, seed) if state is None else state
    snapshots = [] if snapshot is None else [snapshot(0, state)]
    step = every or rounds
    for done in range(step, rounds + 1, step):
        state, _ = rollout(game, source, state, step)
        if snapshot is not None:
            snapshots.append(snapshot(done, state))
    return state, snapshots


def late(result: Result, case: str, measure: str, snapshots: int) -> float:
    """A measure's mean over the last snapshots of a case, where it is finite; NaN if it nowhere is."""
    values = [snapshot[measure] for snapshot in result[case]["snapshots"][-snapshots:]]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def seed_curves(results: Sequence[Result], case: str, measure: str) -> tuple[list[int], np.ndarray]:
    """The rounds of a case's snapshots `[M]`, and the measure there of every seed `[S, M]`."""
    snapshots = [result[case]["snapshots"] for result in results]
    return [snapshot["round"] for snapshot in snapshots[0]], np.array(
        [[snapshot[measure] for snapshot in seed] for seed in snapshots]
    )


def no_game(prior: Prior | None, **options: Any) -> Objective:
    """Losses that move nobody, to add terms to: what a game is compared with. Options are those of `two_player`."""
    return two_player(
        critic=lambda real, fake: jnp.zeros_like(real),
        generator=lambda real, fake: jnp.zeros_like(fake),
        prior=prior,
        **options,
    )


def critic_of(game: Game, state: TrainState) -> Callable[[Array], Array]:
    """The critic as `x [B, ...] -> score [B]`, in evaluation."""
    player = state.players["critic"]

    def score(x: Array) -> Array:
        out, _ = game.players["critic"].network.apply(
            player.params, player.model_state, x, train=False, key=None
        )
        return out["score"] if isinstance(out, dict) else out

    return score
