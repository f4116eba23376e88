"""Probes: measurements between dispatches that are too expensive for every round."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from gan_jax.game import TurnContext
from gan_jax.state import TrainState
from gan_jax.types import Metrics


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ProbeContext(TurnContext):
    """The argument of a probe: a turn's context on the latest batch of training, with a separate key.

    Attributes:
      start: the state before the first round.
      state: the current state.
    """

    start: TrainState
    state: TrainState


class Probe(Protocol):
    """A function that returns scalars or small vectors of a state; jitted, evaluated at each log on one batch."""

    def __call__(self, context: ProbeContext, /) -> Metrics: ...
