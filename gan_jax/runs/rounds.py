"""Rounds of a run, a dispatch at a time: data, schedules and compiled programs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import pathlib
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

import gan_jax
from gan_jax.data.errors import DataError
from gan_jax.data.timeout import within
from gan_jax.distributed.layout import Layout
from gan_jax.distributed.mesh import LayoutError
from gan_jax.distributed.transfer import Run, Sent, bytes_of_round
from gan_jax.game import Diagnostic, Game
from gan_jax.precision import matmul_precision
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.part import Played
from gan_jax.runs.profiling import Profile
from gan_jax.schedule import Schedule, fresh_turns
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment, ExperimentError
from gan_jax.training.rollout import padded, stack_rounds
from gan_jax.types import Metrics

SECONDS_PER_DISPATCH = 0.5
BYTES_PER_DISPATCH = 2**25
"""What the rounds of one dispatch read at most; indices of examples on the device are far below it."""


def schedule_at(game: Game, step: int) -> Schedule:
    """The schedule of round `step`: the first phase that holds, else the game's."""
    return next((schedule for holds, schedule in game.phases if holds(step)), game.schedule)


def rounds_until(experiment: Experiment, step: int, most: int, cuts: Iterable[int] = ()) -> int:
    """How many rounds may be played from `step` in one dispatch: up to the next log, save, picture or phase.

    Args:
      experiment: what is trained.
      step: the rounds that are played.
      most: an upper bound.
      cuts: further rounds at which a dispatch must end.
    """
    cadences = (
        experiment.log_every,
        experiment.checkpoint_every,
        experiment.sample_every,
        experiment.evaluate_every,
    )
    rounds = min(
        most,
        *(n - step % n for n in cadences if n),
        *(cut - step for cut in cuts if cut > step),
    )
    schedule = schedule_at(experiment.game, step)
    for ahead in range(1, rounds):
        if schedule_at(experiment.game, step + ahead) is not schedule:
            return ahead
    return rounds


class Rounds:
    """Plays rounds of an experiment.

    Attributes:
      unread: why the data of the rounds that were to be played could not be read; `None` as long as they can.

    Args:
      experiment: what is trained.
      layout: how it lies on the devices.
      extra_diagnostics: computed beside every dispatch by a program for them only, so that the rounds go through
        the program that trains and are the same rounds, bit for bit.
      profile: which rounds are traced.
    """

    def __init__(
        self,
        experiment: Experiment,
        layout: Layout,
        *,
        extra_diagnostics: Sequence[Diagnostic] = (),
        profile: Profile | None = None,
    ):
        self.experiment = experiment
        seeds = range(experiment.seeds)
        self._experiments = (
            (experiment,) if len(seeds) == 1 else tuple(experiment.for_seed(place) for place in seeds)
        )
        self._layout = layout
        self._extra_diagnostics = extra_diagnostics
        self._profile = profile or Profile()
        self._source = within(layout.local_source(experiment.source), experiment.data_timeout)
        self._device_data = layout.place(self._source.for_device(self._source.device_data))
        self._program = functools.cache(self._compile)
        self._batch_bytes: int | None = None
        self._ahead: tuple[tuple[int, int], _Batches | Exception] | None = None
        self.unread: Exception | None = None

    @property
    def cuts(self) -> tuple[int, ...]:
        """Rounds at which a dispatch must end."""
        return self._profile.cuts

    def _compile(self, schedule: Schedule) -> tuple[Run, Run | None]:
        compiled = functools.partial(
            self._layout.compile, self.experiment.game, self.experiment.source, schedule=schedule
        )
        extra = compiled(diagnostics=self._extra_diagnostics) if self._extra_diagnostics else None
        return compiled(diagnostics=self.experiment.diagnostics), extra

    def at(self, state: TrainState) -> Played:
        """Where a run is that begins or resumes with `state`; the batch before it is read again if it is needed."""
        step, cursor = int(state.step), int(state.cursor)

        @functools.cache  # a stream that cannot go back gives it only once
        def host_batch() -> Any:
            return self._layout.pick(stack_rounds(self._source, cursor - 1, 1, 1, 1), 0, 0)

        return Played(self._experiments, state, step, step, cursor, {}, host_batch, self._device_data)

    def capacity(self, step: int) -> int:
        """The most rounds in one dispatch from `step` on: what they read has `BYTES_PER_DISPATCH` or one round's
        bytes.

        Before anything has been read it is a single round.
        """
        if self._batch_bytes is None:
            return 1
        turns = fresh_turns(schedule_at(self.experiment.game, step))
        fitting = BYTES_PER_DISPATCH // max(1, turns * self._batch_bytes)
        return max(1, min(self.experiment.rounds_per_dispatch, fitting))

    def play(self, played: Played, rounds: int, then: int = 0) -> Played:
        """Plays so many rounds, of one phase, in one dispatch.

        Args:
          played: where to begin.
          rounds: how many, `capacity` at most.
          then: how many the next dispatch plays: what they read is sent while these are played. 0 is the last.
        """
        start, cursor = played.step, played.cursor
        schedule = schedule_at(self.experiment.game, start)
        turns = fresh_turns(schedule)
        program, extra = self._program(schedule)
        with self._profile.dispatch(start, rounds):
            try:
                batches = self._batches(start, cursor, rounds)
            except Exception as error:
                self.unread = error
                raise
            observed: Metrics = {}
            if extra is not None:
                copy = jax.tree.map(jnp.copy, played.state)
                _, observed = extra(copy, self._device_data, batches.sent, rounds)
            with _explaining(), matmul_precision(self.experiment.matmul_precision):
                state, metrics = program(played.state, self._device_data, batches.sent, rounds)
            if then:
                self._send_ahead(start + rounds, cursor + rounds * turns, then)
            fetched = jax.device_get({**observed, **metrics})
        return Played(
            self._experiments,
            state,
            start,
            start + rounds,
            cursor + rounds * turns,
            {name: values[:rounds] for name, values in fetched.items()},
            lambda: self._layout.pick(batches.read, rounds - 1, turns - 1),
            self._device_data,
        )

    def _batches(self, step: int, cursor: int, rounds: int) -> _Batches:
        """What rounds read, sent: ahead, if that was of these."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (cursor, rounds):
            if isinstance(ahead[1], Exception):
                raise ahead[1]
            return ahead[1]
        turns = fresh_turns(schedule_at(self.experiment.game, step))
        read = stack_rounds(self._source, cursor, turns, rounds, rounds)
        if self._batch_bytes is None:
            self._batch_bytes = bytes_of_round(read) // turns
        # All dispatches share a program, so they have one length.
        return _Batches(read, self._layout.send(padded(read, self.capacity(step))))

    def _send_ahead(self, step: int, cursor: int, rounds: int) -> None:
        """Reads and sends what the next rounds read; what goes wrong is raised when they are played."""
        try:
            found: _Batches | Exception = self._batches(step, cursor, rounds)
        except Exception as error:
            found = error
        self._ahead = (cursor, rounds), found


@dataclasses.dataclass(frozen=True)
class _Batches:
    """The host batches of a dispatch: as they were read, and on the devices."""

    read: Any
    sent: Sent


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """Makes what a round is refused for when it is traced an error in one line.

    A check of this package says all that there is to say; other errors are named with the place that raised them.

    Raises:
      ExperimentError: for a `ValueError`.
    """
    try:
        yield
    except (ExperimentError, LayoutError, DataError):
        raise
    except ValueError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if _PACKAGE in pathlib.Path(frames[-1].filename).parents:
            raise ExperimentError(str(error)) from error
        own = [frame for frame in frames if not _LIBRARIES & set(pathlib.Path(frame.filename).parents)][-1]
        place = f"raised in {own.name}, {own.filename}:{own.lineno}, when the first round was traced"
        raise ExperimentError(f"{' '.join(str(error).split())} ({place})") from error


_PACKAGE = pathlib.Path(gan_jax.__file__).parent
_LIBRARIES = {pathlib.Path(str(module.__file__)).parent for module in (jax, flax, optax)}


def dispatches(
    rounds: Rounds,
    played: Played,
    *,
    until: int,
    interrupt: Interrupt,
    most: int | None = None,
) -> Iterator[Played]:
    """Plays on up to round `until`, a dispatch at a time, or until the run is asked to stop.

    A dispatch takes about half a second, so that a signal is noticed soon. Several processes play the same number
    of rounds, and stop at the same round. How long the next dispatch is, is decided before this one is played, so
    that its data are on their way meanwhile.

    Args:
      rounds: what is played.
      played: where to begin.
      until: the round to stop at.
      interrupt: whether the run is asked to stop.
      most: rounds in one dispatch at most; the experiment's number by default.
    """
    allowed, planned = 1, 0
    while played.step < until:
        allowed, stopped = interrupt.agree(allowed)
        if stopped:
            return
        began = time.perf_counter()

        def fitting(step: int, allowed: int = allowed) -> int:
            if step >= until:
                return 0
            least = min(allowed, rounds.capacity(step), until - step, allowed if most is None else most)
            return rounds_until(rounds.experiment, step, least, rounds.cuts)

        count = planned or fitting(played.step)
        planned = fitting(played.step + count)
        played = rounds.play(played, count, planned)
        speed = count / (time.perf_counter() - began)
        allowed = min(max(1, math.ceil(SECONDS_PER_DISPATCH * speed)), 8 * allowed)
        yield played
