"""Saves of a run: the state is safe before anything that may fail is done."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from gan_jax.data.errors import DataTimeoutError
from gan_jax.distributed import hosts
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.drawing import Draw
from gan_jax.runs.evaluating import Evaluate
from gan_jax.runs.finite import NonFiniteError, broken_leaf, check_state
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.interval import Interval
from gan_jax.runs.part import Part, Played, every
from gan_jax.runs.steps import MEASURED_BY
from gan_jax.runs.workdir import Workdir, WorkdirMovedError
from gan_jax.runs.writer import Writer, WriterError
from gan_jax.training.experiment import Experiment


class Save:
    """Saves finite states, with what is still due at their round.

    Args:
      experiment: what is trained.
      workdir: where.
      checkpoints: where states are saved.
      writer: the log, which is on disk before a state after it is.
      interval: the sums since the last log, saved with the state.
      evaluate: whose numbers choose the best checkpoint.
      draw: which draws in the background what was due at a round.
      check_place: raises a `WorkdirMovedError` where the work directory is no longer at its path.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: Workdir,
        checkpoints: Checkpoints,
        writer: Writer,
        interval: Interval,
        evaluate: Evaluate,
        draw: Draw,
        check_place: Callable[[], None] = lambda: None,
    ):
        self._experiment = experiment
        self._workdir = workdir
        self._checkpoints = checkpoints
        self._writer = writer
        self._interval = interval
        self._evaluate = evaluate
        self._draw = draw
        self.check_place = check_place
        self._saved: tuple[int, tuple[str, ...]] = -1, ()
        self._drawn: Callable[[], None] | None = None

    def resume(self, step: int, due: Sequence[str]) -> None:
        """The run goes on from a checkpoint of this round, at which this was due."""
        self._saved = step, tuple(due)

    def due(self, step: int) -> bool:
        """At the experiment's `checkpoint_every`, at every evaluation if the best is kept, and at the end."""
        experiment = self._experiment
        return (
            every(experiment.checkpoint_every, step)
            or (experiment.best is not None and every(experiment.evaluate_every, step))
            or step >= experiment.rounds
        )

    def run(self, played: Played, due: Sequence[Part] = (), *, blocking: bool = False) -> None:
        """Saves the state of a round, unless it is saved already.

        Args:
          played: where the run is.
          due: what is due at this round and not done yet.
          blocking: return only once the checkpoint counts.

        Raises:
          NonFiniteError: if the state is not finite.
          WriterError, CheckpointError: if the log or the state cannot be written.
        """
        self._writer.flush()
        self._record_drawn()
        if self._saved[0] != played.step:
            self._save(played, due)
        if blocking:
            self._checkpoints.wait()

    def _save(self, played: Played, due: Sequence[Part]) -> None:
        step, names = played.step, tuple(part.name for part in due)
        check_state(played.state, self.last_saved, self.first_seed)
        self.check_place()
        self._write(self._checkpoints, played, names)
        self._saved = step, names

    def _write(self, checkpoints: Checkpoints, played: Played, due: Sequence[str]) -> None:
        source = self._experiment.source
        checkpoints.save(
            played.step,
            played.state,
            metadata=self._metadata(played.step),
            metrics=self._evaluate.numbers_at(played.step),
            due=due,
            payload=None if source.state is None else source.state(),
        )

    def where_it_is(
        self, played: Played, due: Sequence[Part], error: WorkdirMovedError, command: str
    ) -> WorkdirMovedError:
        """Saves the state in the work directory that was moved, if it is finite and known where to.

        Of several processes only the first knows, and no state is saved by one of them.

        Args:
          played: where the run is.
          due: what is due at this round and not done yet.
          error: that the directory was moved.
          command: what launches the experiment again, but for `--workdir`.

        Returns:
          The error, with what is saved and what is lost.
        """
        with contextlib.suppress(CheckpointError, WriterError):  # they were on the way to where it was
            self._checkpoints.wait()
        with contextlib.suppress(WriterError):
            self._writer.flush()
        broken = broken_leaf(played.state, self.first_seed) is not None
        # Without a record of the configuration nothing can go on from a state.
        if error.place is None or hosts.several() or broken or not Workdir(error.place).config.exists():
            return WorkdirMovedError(
                f"{error} What was trained since the last checkpoint, up to round {played.step}, is lost.",
                error.place,
            )
        experiment, there = self._experiment, Workdir(error.place)
        try:
            with Checkpoints(there.checkpoints, keep=experiment.keep, best=experiment.best) as checkpoints:
                if played.step not in checkpoints.steps():
                    self._write(checkpoints, played, tuple(part.name for part in due))
        except CheckpointError as unsaved:
            return WorkdirMovedError(f"{error} {unsaved}", error.place)
        go_on = f"{command} --workdir={shlex.quote(error.place)}"
        return WorkdirMovedError(
            f"{error} Round {played.step} is saved there. Go on with: {go_on}", error.place
        )

    def without_log(self, played: Played, due: Sequence[Part], error: WriterError) -> WriterError:
        """Saves the state although the log could not be written: lines and pictures are lost rather than rounds.

        Of several processes only the first writes the log, and no state is saved by one of them.

        Returns:
          The error, with what has been saved and what is lost.
        """
        go_on = "make room or mend the directory, and launch again"
        try:
            if self._saved[0] != played.step and not hosts.several():
                self._save(played, due)
            self._checkpoints.wait()
        except (CheckpointError, NonFiniteError):
            pass  # what is saved is found below
        if self._saved[0] == played.step and played.step in self._checkpoints.steps():
            return WriterError(
                f"{error} Round {played.step} is saved; what could not be written is lost: {go_on}."
            )
        steps = self._checkpoints.steps()
        saved = f"the last checkpoint is round {steps[-1]}" if steps else "no checkpoint had been saved"
        return WriterError(
            f"{error} The state of round {played.step} could not be saved either and is lost, {saved}: {go_on}."
        )

    def without_data(
        self, played: Played, due: Sequence[Part], error: Exception, log: Callable[[str], None]
    ) -> None:
        """Saves the state whose next data cannot be read: what was trained until then is not lost.

        Of several processes each reads for itself, and no state is saved by one of them. A stream that hangs would
        hang again when it is asked for its own state.

        Args:
          played: where the run is.
          due: what is due at this round and not done yet.
          error: why the data cannot be read.
          log: prints a line for the user.
        """
        hangs = isinstance(error, DataTimeoutError) and self._experiment.source.state is not None
        if hosts.several() or hangs:
            return
        # The error of the data is the one to report, and a stream that has failed may not tell its state either.
        with contextlib.suppress(Exception):
            self.run(played, due, blocking=True)
            log(
                f"Round {played.step} is saved. The data of the next round cannot be read: correct them and launch "
                "again."
            )

    def complete(self, step: int, due: Sequence[Part], *, in_background: bool = False) -> None:
        """Records what is still due at a round that is saved, now that something has been done.

        Args:
          step: the round.
          due: what is still due.
          in_background: what has been done is not written yet: it is recorded by the next save, which waits for it.

        Raises:
          WriterError: if what was done could not be written.
        """
        names = tuple(part.name for part in due)
        if self._saved[0] != step or self._saved[1] == names:
            return
        amend = functools.partial(
            self._checkpoints.amend,
            step,
            due=names,
            metrics=self._evaluate.numbers_at(step),
            metadata=self._metadata(step),
        )
        self._saved = step, names
        if in_background:
            self._drawn = amend
        else:
            self._writer.flush()
            amend()

    def _record_drawn(self) -> None:
        amend, self._drawn = self._drawn, None
        if amend is not None and self._draw.failure is None:
            amend()

    def _metadata(self, step: int) -> dict[str, Any]:
        measured_by = self._evaluate.measured_by(step)
        return {
            **({MEASURED_BY: measured_by} if measured_by else {}),
            # Copies: what is recorded later is of this round, and the sums go on.
            "sums": dict(self._interval.sums),
            "counts": dict(self._interval.counts),
            "lines": self._writer.lines_at(step),
            **({"classes": list(self._experiment.classes)} if self._experiment.classes else {}),
        }

    @property
    def first_seed(self) -> int | None:
        """The first of several seeds."""
        return self._experiment.seed if self._experiment.seeds > 1 else None

    def last_saved(self) -> str:
        """What is saved, and how to go on from it."""
        self._checkpoints.wait()
        steps = self._checkpoints.steps()
        saved = (
            f"The last good checkpoint is round {steps[-1]}, in {self._workdir.checkpoints}"
            if steps
            else f"No checkpoint had been saved in {self._workdir.checkpoints}"
        )
        return (
            f"{saved}; see what led here with --mode=replay --workdir={shlex.quote(str(self._workdir.root))}."
        )


class Due:
    """Does what is due at a round, so that nothing that fails loses the state.

    The log comes first: its sums are saved with the state. Then the state is saved, if it is to be at this
    round, with what is still due; then that is done. A failure saves the state too, so that the next launch
    does what is due before it goes on. Where the run is asked to stop, what can wait is left to the next
    launch.

    Attributes:
      left: what has been due at the last round, and has not been done or not been written.

    Args:
      parts: what may be due, in order; those that can wait are last.
      save: saves the state.
      draw: the part that goes on in the background.
      interrupt: whether the run is asked to stop.
      log: prints a line for the user.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        save: Save,
        draw: Draw,
        interrupt: Interrupt,
        log: Callable[[str], None],
    ):
        self._parts = tuple(parts)
        self._save = save
        self._draw = draw
        self._interrupt = interrupt
        self._log = log
        self.left: list[Part] = []

    def named(self, names: Sequence[str]) -> list[Part]:
        """The parts that a checkpoint records as due."""
        return [part for part in self._parts if part.name in names]

    def run(self, played: Played, pending: Sequence[Part] | None = None) -> list[Part]:
        """Does what is due, or `pending`, and returns what is left to the next launch."""
        if pending is None:
            pending = [part for part in self._parts if part.due(played.step)]
        self.left = list(pending)
        self._save.check_place()
        self._check_pictures(played)
        while self.left and not self.left[0].can_wait:
            self._do_first(played)
        if self._save.due(played.step):
            self._save.run(played, self.left)
        while self.left:
            if self._interrupt.agree()[1]:
                break
            self._do_first(played)
        return self.left

    def end(self, played: Played) -> None:
        """Saves the last state, once everything is written.

        Raises:
          Exception: the error of a picture that could not be drawn.
        """
        self._save.run(played, self.left, blocking=True)
        self._check_pictures(played, at_end=True)

    def _check_pictures(self, played: Played, *, at_end: bool = False) -> None:
        """Ends the run, with its state saved, if a picture of an earlier round could not be drawn.

        Several processes ask each other, which they do only where something is due.
        """
        if hosts.several() and not self.left and not at_end:
            return
        try:
            with hosts.all_succeed():
                if self._draw.failure is not None:
                    raise self._draw.failure
        except Exception:
            # The picture's error is the one to report.
            with contextlib.suppress(WriterError, CheckpointError):
                self._save.run(played, self.left, blocking=True)
                self._log(
                    f"Round {played.step} is saved, and the picture of round {self._draw.failed_at}, which could "
                    "not be drawn, is still due: correct it and launch again."
                )
            raise

    def _do_first(self, played: Played) -> None:
        """Does the first part that is left; if it fails, saves the state with all that is left."""
        left = self.left
        try:
            with hosts.all_succeed():
                self._save.check_place()
                left[0].run(played)
        except (WriterError, WorkdirMovedError):
            raise  # the loop saves the state without the log, or elsewhere
        except Exception:
            with contextlib.suppress(WriterError, CheckpointError):  # the part's error is the one to report
                self._save.run(played, left, blocking=True)
                self._log(
                    f"Round {played.step} is saved, and what failed there ({left[0].name}) is still due: correct "
                    "it and launch again."
                )
            raise
        self._save.complete(played.step, left[1:], in_background=left[0].in_background)
        self.left = left[1:]
