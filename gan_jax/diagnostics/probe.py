"""Probe: what is measured between dispatches, too expensive for every round."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from gan_jax.game import TurnContext
from gan_jax.state import TrainState
from gan_jax.types import Metrics


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ProbeContext(TurnContext):
    """What a probe sees: a turn's context on a batch that has just been played on, with a key of its own.

    Attributes:
      start: the state before the first round.
      state: the state now.
    """

    start: TrainState
    state: TrainState


class Probe(Protocol):
    """Scalars or small vectors of a state, at each log: jitted, on one batch, nothing averaged over rounds."""

    def __call__(self, context: ProbeContext, /) -> Metrics: ...
