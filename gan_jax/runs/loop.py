"""The host's loop: play, check, average, log, save, evaluate, draw. It knows no loss and no network."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.data.timeout import within
from gan_jax.distributed import hosts
from gan_jax.distributed.layout import Layout
from gan_jax.evaluation.averages import young_average
from gan_jax.evaluation.sampling import generators_of, picture_name
from gan_jax.runs.across_processes import refuse_others, refuse_unshared
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import (
    check_config,
    jsonable,
    overridden_after,
    read_config,
    shortened,
    write_config,
)
from gan_jax.runs.described_data import described
from gan_jax.runs.drawing import Draw
from gan_jax.runs.evaluating import Evaluate
from gan_jax.runs.files import is_there
from gan_jax.runs.finite import NonFiniteError, broken_leaf, check_losses
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.interval import Interval
from gan_jax.runs.lock import Lock
from gan_jax.runs.logging import Log
from gan_jax.runs.machine import Machine
from gan_jax.runs.opening import closing, first_state, layout_of, restore
from gan_jax.runs.part import Played
from gan_jax.runs.portable_files import PortableWriter
from gan_jax.runs.profiling import Profile
from gan_jax.runs.progress import progress
from gan_jax.runs.provenance import (
    computed_by,
    examples_fingerprint,
    features_fingerprint,
    git_commit,
    library_versions,
)
from gan_jax.runs.rounds import Rounds, dispatches
from gan_jax.runs.saving import Due, Save
from gan_jax.runs.steps import StepDirectory
from gan_jax.runs.terminal import tell
from gan_jax.runs.trackers import TRACKERS
from gan_jax.runs.workdir import (
    Workdir,
    WorkdirMovedError,
    keep_metrics,
    refuse_files_of_others,
    refuse_links,
)
from gan_jax.runs.writer import Writer, WriterError
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment

MAY_CHANGE = ("diagnostics", "keep_best")
"""Fields of a configuration that change what is measured of a run and kept, not the run."""


def train(
    experiment: Experiment,
    workdir: Workdir,
    *,
    config: Any = None,
    name: str = "",
    code: str = "",
    modules: Mapping[str, str] | None = None,
    override: bool = False,
    profile: int | None = None,
    command: str = "python launch.py",
    track: Sequence[str] = (),
    log: Callable[[str], None] = tell,
) -> TrainState:
    """Trains until `experiment.rounds`, from the newest checkpoint of the work directory if it has one.

    Args:
      experiment: what is trained.
      workdir: where everything is written.
      config: the resolved configuration, compared with the one that the directory was made with.
      name: the experiment's name or file, for `config.json`.
      code: the sha256 of its code, compared with that of the launches before; see `provenance.source_digest`.
      modules: those of the modules beside it; see `provenance.modules_beside`.
      override: go on with a changed configuration, experiment or data.
      profile: the first round of a profiler trace; see `profiling.Profile`.
      command: what launches the experiment again, but for `--workdir`.
      track: where everything is written too, names of `trackers.TRACKERS`.
      log: prints a line for the user.

    Returns:
      The state after the last round played.

    Raises:
      NonFiniteError, WorkdirError, WriterError, CheckpointError: each with a line for the user.
    """
    log = log if hosts.first() else lambda line: None
    layout = layout_of(experiment)
    layout.local_source(experiment.source)  # refuses a batch that the devices do not divide
    record = _Record(workdir, config, name, code, modules)
    with contextlib.ExitStack() as held:
        held.enter_context(closing(experiment))
        interrupt = held.enter_context(Interrupt().handling_signals())
        lock = None
        with hosts.all_succeed():
            record.identify(experiment)
        refuse_others(record.described())
        with hosts.all_succeed():
            if hosts.first():
                refuse_links(workdir)
                lock = held.enter_context(Lock(workdir))
                if config is not None:
                    refuse_files_of_others(workdir)
                StepDirectory(workdir.checkpoints).refuse_others()
                record.check(override)
        refuse_unshared(workdir)
        check_place = (lambda: None) if lock is None else lock.check
        checkpoints = held.enter_context(
            Checkpoints(
                workdir.checkpoints,
                keep=experiment.keep,
                best=experiment.best,
                check_place=check_place,
            )
        )
        trace = held.enter_context(contextlib.closing(Profile(workdir.profile, profile)))
        state = _play(
            experiment,
            workdir,
            layout,
            checkpoints,
            interrupt,
            trace,
            record,
            check_place,
            track,
            command,
            log,
        )
        go_on = f"{command} --workdir={shlex.quote(str(workdir.root))}"
        _report(experiment, workdir, checkpoints, interrupt, int(state.step), go_on, log)
        return state


class _Record:
    """`config.json`: checked before anything is done, and written once what it says holds.

    Args:
      workdir: the work directory.
      config: the configuration; `None` leaves no record.
      name: the experiment's name or file.
      code: the sha256 of its code.
      modules: those of the modules beside it.
    """

    def __init__(
        self, workdir: Workdir, config: Any, name: str, code: str, modules: Mapping[str, str] | None
    ):
        self._workdir, self._config, self._name = workdir, config, name
        self._code, self._modules = code, modules
        self._data: dict[str, str] = {}
        self._classes: tuple[str, ...] = ()
        self._precision, self._replicas = "default", 0
        self._overridden: list[str] = []
        self._written = False

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration as JSON values; empty where no record is left."""
        return {} if self._config is None else jsonable(self._config)

    def portable(self, experiment: Experiment) -> PortableWriter | None:
        """Begins to make the networks' programs kept beside the checkpoints; `None` where no record is left."""
        if self._config is None:
            return None
        made_with = {
            "config": jsonable(self._config),
            "source": self._code,
            "modules": dict(self._modules or {}),
            "versions": library_versions(),
            "data": self._data,
            "classes": list(experiment.classes),
        }
        return PortableWriter(self._workdir, experiment, made_with)

    def identify(self, experiment: Experiment) -> None:
        """Finds what identifies what is to be trained."""
        self._classes, self._precision = experiment.classes, experiment.matmul_precision
        self._replicas = jax.device_count() if experiment.parallelism == "pmap" else 0
        if self._config is None:
            return
        self._data = {
            **examples_fingerprint(experiment),
            **features_fingerprint(experiment.game),
        }

    def described(self) -> dict[str, str]:
        """What every process has to train alike, by name; of Python and the device nothing."""
        if not hosts.several():
            return {}
        made_with = {**library_versions(), "commit": str(git_commit()), **computed_by(self._precision)}
        config = {name: json.dumps(value, sort_keys=True) for name, value in self.config.items()}
        return {
            **{f"--config.{name}": value for name, value in config.items()},
            "the experiment's code": self._code[:12],
            **{f"the module {name}": digest[:12] for name, digest in (self._modules or {}).items()},
            **{f"the data {name}": shortened(mark) for name, mark in self._data.items()},
            **{name: value for name, value in made_with.items() if name not in ("python", "device")},
        }

    def check(self, override: bool) -> None:
        """Compares what is to be trained with what was."""
        if self._config is None:
            return
        self._overridden = check_config(
            self._workdir,
            self._config,
            source=self._code,
            modules=self._modules,
            data=self._data,
            may_change=MAY_CHANGE,
            override=override,
        )

    def write(self, step: int, log: Callable[[str], None]) -> None:
        """Writes what is trained from round `step` on, once; all processes call this.

        That is after the first dispatch: only then it is known that a round of this game can be played at all.
        """
        if self._written:
            return
        self._written = True
        with hosts.all_succeed():
            if hosts.first() and self._config is not None:
                self._write(step, log)

    def _write(self, step: int, log: Callable[[str], None]) -> None:
        for line in self._brought_back(step):
            log(line)
        changed = write_config(
            self._workdir,
            self._config,
            experiment=self._name,
            source=self._code,
            modules=self._modules,
            data=self._data,
            classes=self._classes,
            step=step,
            overridden=self._overridden,
            precision=self._precision,
            replicas=self._replicas,
        )
        if self._overridden:
            log(f"Going on with what differs from before: {'; '.join(self._overridden)}.")
        if changed:
            log(f"Since the last launch: {changed}.")

    def _brought_back(self, step: int) -> list[str]:
        """A line for each change by `--override` of a round after `step`, at which the run goes on."""
        if step == 0 or not is_there(self._workdir.config):
            return []
        return [
            f"Round {step} is from before --override changed the run at round {launch.step} "
            f"({', '.join(launch.overridden)}): the change now applies from round {step} on."
            for launch in overridden_after(read_config(self._workdir), step + 1)
        ]


def _play(
    experiment: Experiment,
    workdir: Workdir,
    layout: Layout,
    checkpoints: Checkpoints,
    interrupt: Interrupt,
    trace: Profile,
    record: _Record,
    check_place: Callable[[], None],
    track: Sequence[str],
    command: str,
    log: Callable[[str], None],
) -> TrainState:
    restored = restore(checkpoints, experiment, layout) if checkpoints.steps() else None
    state = first_state(experiment, layout) if restored is None else restored.state
    interval = Interval()
    if restored is not None:
        checkpoints.discard_after(restored.step)
        interval = Interval(restored.metadata["sums"], restored.metadata["counts"])
        log(f"Resuming {workdir.root} at round {restored.step}.")
    elif hosts.first() and (kept := keep_metrics(workdir)):
        log(f"{workdir.root} has no checkpoint: training begins, and the log of before is {kept} now.")
    portable = record.portable(experiment) if hosts.first() else None
    rounds = Rounds(experiment, layout, profile=trace)
    begun = played = rounds.at(state)
    for note in (layout.message, *experiment.notes):
        if note:
            log(note)
    if trace.cuts and begun.step > trace.cuts[0]:
        log(f"Nothing is traced: round {trace.cuts[0]} has been played already.")

    writer = Writer(
        workdir,
        resumed_from=None if restored is None else restored.step,
        # What was due at the checkpoint's round is done again, and writes its lines again.
        resumed_lines=restored.metadata.get("lines") if restored is not None and restored.due else None,
        keep_pictures=experiment.keep_pictures,
        trackers=[
            functools.partial(TRACKERS[name], workdir, record.config, resumed=restored is not None)
            for name in track
        ],
        check_place=check_place,
        enabled=hosts.first(),
    )
    with writer, _alarm_in_log(writer):
        bar = progress(experiment.rounds, start=begun.step, enabled=hosts.first())
        machine = Machine(experiment.rounds)
        log_part = Log(experiment, interval, writer, machine, bar.note)
        evaluate = Evaluate(experiment, writer)
        draw = Draw(experiment, workdir, writer)
        save = Save(experiment, workdir, checkpoints, writer, interval, evaluate, draw, check_place)
        due = Due((log_part, evaluate, draw), save, draw, interrupt, log)

        try:
            if restored is not None:
                if hosts.first():
                    log_part.recall(workdir)
                save.resume(restored.step, restored.due)
                draw.resume(restored.step, restored.due)
                # A run that has been at its end already draws its last picture again.
                at_end = [draw] if begun.step >= experiment.rounds else []
                due.run(begun, due.named(restored.due) or at_end)
            if begun.step < experiment.rounds:
                log(described(within(experiment.source, experiment.data_timeout), experiment.classes))
                log("Compiling: the first round takes longer than the others.")
            waiting = time.perf_counter()
            for played in dispatches(rounds, begun, until=experiment.rounds, interrupt=interrupt):
                returned = time.perf_counter()
                if played.start == begun.step:
                    check_place()  # before the record is written
                machine.played(played.step - played.start, returned - waiting)
                record.write(begun.step, log)
                if portable is not None:  # made while the first dispatch was compiled
                    portable.finish(log)
                    portable = None
                check_losses(
                    played.history,
                    played.start,
                    save.last_saved,
                    save.first_seed,
                    _leaf(played, save.first_seed),
                )
                interval.add(played.history)
                bar.update(played.step, _losses(played.history))
                due.run(played)
                waiting = time.perf_counter()
                bar.skip(waiting - returned)
            bar.close()
            record.write(begun.step, log)  # where no round was played
            if portable is not None:
                portable.finish(log)
            due.end(played)
        except WorkdirMovedError as error:
            raise save.where_it_is(played, due.left, error, command) from error
        except WriterError as error:
            try:
                check_place()
            except WorkdirMovedError as moved:
                raise save.where_it_is(played, due.left, moved, command) from error
            raise save.without_log(played, due.left, error) from error
        except CheckpointError as error:
            try:
                check_place()
            except WorkdirMovedError as moved:
                raise save.where_it_is(played, due.left, moved, command) from error
            raise
        except Exception as error:
            if error is rounds.unread and played.step > begun.step:
                save.without_data(played, due.left, error, log)
            raise
    return played.state


@contextlib.contextmanager
def _alarm_in_log(writer: Writer) -> Iterator[None]:
    """Writes what is not finite into the log too, before the run ends by it."""
    try:
        yield
    except NonFiniteError as error:
        with contextlib.suppress(WriterError):  # what is not finite is the error to report
            writer.scalars(error.step, {"alarm/non_finite": str(error)})
        raise


def _leaf(played: Played, first_seed: int | None) -> Callable[[], str]:
    """Says which parameter is not finite at a dispatch's end."""

    def message() -> str:
        broken = broken_leaf(played.state, first_seed)
        if broken is None:
            return ""
        return f" By round {played.step} the {broken.player}'s {broken.leaf} is not finite either."

    return message


def _losses(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Every player's loss in the last round, by player; of several seeds the mean."""
    return {
        name.removesuffix("/loss"): float(np.mean(values[-1]))
        for name, values in history.items()
        if name.endswith("/loss")
    }


def _report(
    experiment: Experiment,
    workdir: Workdir,
    checkpoints: Checkpoints,
    interrupt: Interrupt,
    step: int,
    go_on: str,
    log: Callable[[str], None],
) -> None:
    """Says what there is to see, or how to go on."""
    if interrupt.by is not None:
        log(f"Stopped by {interrupt.by} at round {step}, saved. Go on with: {go_on}")
        return
    log(f"Trained {step} rounds. Work directory: {workdir.root}")
    generators = generators_of(experiment.game)
    name = picture_name(generators, generators[0])
    others = "" if len(generators) == 1 else ", one beside it for each other generator"
    if experiment.seeds > 1:
        name, others = f"{name}_seed_{experiment.seed}", f"{others}, one beside it for each other seed"
    averaged = any(experiment.game.players[player].ema is not None for player in generators)
    halves = ", the moving average on the left and the weights themselves on the right" if averaged else ""
    log(
        f"Sample grid: {workdir.samples}/{name}_{step:08d}.png (open it with any image viewer{halves}{others})"
    )
    if note := young_average(experiment.game, step):
        log(note)
    if experiment.best is not None and (best := checkpoints.best()) is not None:
        log(f"Best by {experiment.best.metric}: round {best} (--checkpoint={best})")
    log(
        f"Curves: tensorboard --logdir {shlex.quote(str(workdir.root))} (pip install tensorboard), or the lines of "
        f"{workdir.metrics}"
    )
