"""Probe: what is looked at between dispatches, too dear for every round."""

from __future__ import annotations

from typing import Protocol

from gan_jax.game import Game, TrainState
from gan_jax.types import Batch, Metrics, Moment


class Probe(Protocol):
    """Scalars or small vectors of a state, at each log: jitted, on one batch, nothing averaged over rounds.

    Args:
      game: the game.
      start: the state before the first round.
      state: the state now.
      batch: one that has just been played on, leaves `[B, ...]`.
      moment: the round, and a key of the probe's own.
    """

    def __call__(
        self, game: Game, start: TrainState, state: TrainState, batch: Batch, moment: Moment
    ) -> Metrics: ...
