"""What the loop plays, and the parts that something is done in after a dispatch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from gan_jax.distributed.seeds import state_of
from gan_jax.evaluation.batches import get_batch
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.types import Batch, Tree


class View(NamedTuple):
    """A single seed's experiment and state, and how the last batch that it has played is made."""

    experiment: Experiment
    state: TrainState
    batch: Callable[[], Batch]


@dataclasses.dataclass(frozen=True, eq=False)
class Played:
    """Where a run is after a dispatch, or when it begins or resumes.

    Attributes:
      experiments: what is trained, of several seeds each seed's; always the same objects, since their programs are
        cached by them.
      state: after the dispatch; the next dispatch takes its buffers.
      start: the first round of the dispatch.
      step: the rounds played in all.
      cursor: the batches consumed in all.
      history: every metric of the dispatch's rounds, `[step - start, ...]`.
      host_batch: what the host has sent for the last turn: parts read this batch again, so that they take none
        from a stream.
      device_data: the data that stay on the devices.
    """

    experiments: tuple[Experiment, ...]
    state: TrainState
    start: int
    step: int
    cursor: int
    history: Mapping[str, np.ndarray]
    host_batch: Callable[[], Any]
    device_data: Tree

    def views(self) -> list[View]:
        """The view of every seed."""
        host_batch = self.host_batch()
        if len(self.experiments) == 1:
            (experiment,) = self.experiments
            batch = lambda: get_batch(experiment.source, self.state, host_batch, self.device_data)  # noqa: E731
            return [View(experiment, self.state, batch)]

        def view(place: int, experiment: Experiment) -> View:
            state = state_of(self.state, place)
            seed_batch = jax.tree.map(lambda x: x[place], host_batch)
            return View(experiment, state, lambda: get_batch(experiment.source, state, seed_batch))

        return [view(place, experiment) for place, experiment in enumerate(self.experiments)]


class Part(Protocol):
    """Something that is done after a dispatch.

    Attributes:
      name: by which a checkpoint records that it is still due.
      can_wait: whether it is done after the state is saved, and by the next launch if this one is to stop.
      in_background: whether `run` only begins it, and it is done once the writer is flushed.
    """

    name: str
    can_wait: bool
    in_background: bool

    def due(self, step: int) -> bool:
        """Whether it is due after `step` rounds."""

    def run(self, played: Played) -> None:
        """Does it."""


def every(rounds: int, step: int) -> bool:
    """Whether something that is done every `rounds` rounds, 0 for never, is due.

    >>> every(10, 20), every(10, 25), every(0, 20)
    (True, False, False)
    """
    return bool(rounds) and step % rounds == 0
