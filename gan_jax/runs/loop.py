"""The host's loop: data, rounds, writing, saving. It knows no loss and no network."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.errors import DataTimeoutError
from gan_jax.data.timeout import within
from gan_jax.diagnostics.alarms import NON_FINITE_HELPS, Alarms, as_metrics
from gan_jax.distributed import hosts
from gan_jax.distributed.layout import Layout, make_layout
from gan_jax.distributed.seeds import make_seeds_layout, stacked, state_of
from gan_jax.distributed.transfer import Run
from gan_jax.evaluation.evaluate import evaluate, get_batch, log_of, numbers_of, picture, probe
from gan_jax.evaluation.seed_statistics import combined, is_number, metrics_of_seed, summary
from gan_jax.game import Game, Schedule, TrainState, fresh_turns
from gan_jax.runs.checkpoint import Checkpoints, leaf_names
from gan_jax.runs.workdir import Lock, Workdir, check_config, read_metrics, refuse_links, write_config
from gan_jax.runs.writer import Progress, Writer, WriterError, progress
from gan_jax.training.experiment import Experiment, ExperimentError, closest
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from gan_jax.types import Array, Batch, Key, Tree

SECONDS_PER_DISPATCH = 0.5
LOOKS = ("diagnostics", "keep_best")
"""Fields of a configuration that change what is seen of a run and kept, not the run."""
SEPARATE = ("evaluation/", "alarm/")
"""What stands in lines of `metrics.jsonl` of its own, or beside the means of a log."""


class NonFiniteError(RuntimeError):
    """A loss or a parameter stopped being a number; says whose, when, and what is saved.

    Attributes:
      step: the round.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


@dataclasses.dataclass
class Interval:
    """Sums of the metrics since the last log; saved with a checkpoint: a resumed run logs the same means.

    Attributes:
      sums: by name, a number or nested lists of numbers.
      counts: how many rounds each is of.
    """

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, history: Mapping[str, np.ndarray]) -> None:
        """Adds the rounds of a dispatch, each metric `[rounds, ...]`, one after the other."""
        for name, values in history.items():
            before = np.broadcast_to(self.sums.get(name, 0.0), (1, *values.shape[1:]))
            # A running sum adds in the rounds' order, so where dispatches are cut does not show.
            running = np.cumsum(np.concatenate([before, values.astype(np.float64)]), axis=0)
            self.sums[name] = running[-1].tolist()
            self.counts[name] = self.counts.get(name, 0) + len(values)

    def means(self) -> dict[str, Any]:
        """The means since the last call: numbers, or arrays."""
        means = {name: np.asarray(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


class Interrupt:
    """Whether SIGTERM or Ctrl-C asked the run to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.by: str | None = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number).name

    @contextlib.contextmanager
    def watching(self) -> Iterator[Interrupt]:
        """Takes the two signals over for the block; outside the main thread there are none to take."""
        try:
            before = {number: signal.signal(number, self) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def schedule_at(game: Game, step: int) -> Schedule:
    """The schedule of round `step`: the first phase that holds, else the game's own."""
    return next((schedule for holds, schedule in game.phases if holds(step)), game.schedule)


def rounds_until(experiment: Experiment, step: int, most: int) -> int:
    """How many rounds may be played from `step` in one dispatch: up to the next log, save, picture or phase."""
    every = (
        experiment.log_every,
        experiment.checkpoint_every,
        experiment.sample_every,
        experiment.evaluate_every,
    )
    rounds = min(most, experiment.rounds - step, *(n - step % n for n in every if n))
    schedule = schedule_at(experiment.game, step)
    for ahead in range(1, rounds):
        if schedule_at(experiment.game, step + ahead) is not schedule:
            return ahead
    return rounds


@functools.partial(jax.jit, static_argnums=1)
def _finite(leaves: list[Array], kept: int) -> list[Array]:
    """Whether each leaf is all numbers, over all its axes but the first `kept`."""
    return [jnp.all(jnp.isfinite(x), axis=tuple(range(kept, x.ndim))) for x in leaves]


def broken_leaf(state: TrainState, seed: int | None = None) -> tuple[str, str, int | None] | None:
    """The first of the players' parameters, statistics and memories that is not finite.

    Args:
      state: of one seed, or of several.
      seed: the first of several.

    Returns:
      The player, the leaf's name, and whose of several seeds; `None` if all are finite.
    """
    kept = 0 if seed is None else 1
    for name, player in state.players.items():
        of_player = {"params": player.params, "stats": player.model_state, "memory": player.objective_state}
        leaves = {
            leaf: x
            for leaf, x in zip(leaf_names(of_player), jax.tree.leaves(of_player), strict=True)
            if jnp.issubdtype(x.dtype, jnp.floating)
        }
        finite = _finite(list(leaves.values()), kept)
        for leaf, found in zip(leaves, map(np.asarray, finite), strict=True):
            if not found.all():
                return name, leaf, None if seed is None else seed + int(np.argmin(found))
    return None


def check_losses(
    history: Mapping[str, np.ndarray],
    start: int,
    good: Callable[[], str],
    seed: int | None = None,
    leaf: Callable[[], str] = lambda: "",
) -> None:
    """Checks that every metric of every round is a number.

    Args:
      history: each metric, `[rounds, ...]`, of several seeds `[rounds, S, ...]`.
      start: the first of them.
      good: says what is saved, for the message.
      seed: the first of several.
      leaf: says which parameter is not finite, for the message.

    Raises:
      NonFiniteError: naming the earliest round, its player and its metric.
    """
    broken = []
    for name, values in history.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            broken.append((int(np.argmin(finite)), name))
    if broken:
        place, name = min(broken)
        player, _, metric = name.partition("/")
        value, of = history[name][place], ""
        if seed is not None:
            own = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(axis=1)))
            value, of = value[own], f" of seed {seed + own}"
        raise NonFiniteError(
            f"The {player}'s {metric}{of} was {value} at round {start + place}.{leaf()} {good()} "
            f"What usually helps: {NON_FINITE_HELPS}.",
            start + place,
        )


def check_state(state: TrainState, good: Callable[[], str], seed: int | None = None) -> None:
    """Checks that all players' parameters, statistics and memories are finite before they are saved.

    Args:
      state: to be saved.
      good: says what is saved, for the message.
      seed: the first of several.

    Raises:
      NonFiniteError: naming the player and the leaf.
    """
    broken = broken_leaf(state, seed)
    if broken is not None:
        name, leaf, whose = broken
        of = "" if whose is None else f" of seed {whose}"
        raise NonFiniteError(
            f"The {name}'s {leaf}{of} was not finite after round {int(state.step) - 1}. {good()} "
            f"What usually helps: {NON_FINITE_HELPS}.",
            int(state.step),
        )


def train(
    experiment: Experiment,
    workdir: Workdir,
    *,
    config: Any = None,
    name: str = "",
    override: bool = False,
    say: Callable[[str], None] = print,
) -> TrainState:
    """Trains until `experiment.rounds`, from the newest checkpoint of the work directory if it has one.

    Args:
      experiment: what is trained.
      workdir: where everything is written.
      config: the resolved configuration, held against the one that the directory was made with.
      name: the experiment's file, for `config.json`.
      override: go on with a changed configuration.
      say: prints a line for the user.

    Returns:
      The state after the last round played.

    Raises:
      NonFiniteError, WorkdirError, CheckpointError: each with a line for the user.
    """
    layout = layout_of(experiment)
    layout.local_source(experiment.source)  # refuses a batch that the devices do not divide
    with contextlib.ExitStack() as held:
        held.enter_context(closing(experiment))
        interrupt = held.enter_context(Interrupt().watching())
        with hosts.first_goes_ahead():
            if hosts.first():
                refuse_links(workdir)
                held.enter_context(Lock(workdir))
                if config is not None:
                    check_config(workdir, config, may_change=LOOKS, override=override)
                    write_config(workdir, config, experiment=name)
        with Checkpoints(workdir.checkpoints, keep=experiment.keep, best=experiment.best) as checkpoints:
            run = _Run(experiment, workdir, layout, checkpoints, interrupt, say)
            return run.play()


@contextlib.contextmanager
def closing(experiment: Experiment) -> Iterator[None]:
    """Closes the experiment's sources at the block's end, unless one hangs: closing it would wait for it."""
    try:
        yield
    except DataTimeoutError:
        raise
    except BaseException:
        _close(experiment)
        raise
    _close(experiment)


def _close(experiment: Experiment) -> None:
    for source in (experiment.source, *experiment.extra_sources):
        source.close()


def layout_of(experiment: Experiment) -> Layout:
    """How the experiment, of one seed or of several, lies on the devices at hand.

    Raises:
      LayoutError: if they cannot take it.
    """
    if experiment.seeds > 1:
        return make_seeds_layout((experiment.source, *experiment.extra_sources))
    return make_layout(experiment.parallelism)


def initial(experiment: Experiment) -> tuple[Callable[[Key], TrainState], Any, TrainState]:
    """How the experiment begins: the state from a key, the key (or those of its seeds), and the state's shapes."""
    make = functools.partial(init_state, experiment.game)
    if experiment.seeds == 1:
        key = jax.random.key(experiment.seed)
        return make, key, jax.eval_shape(make, key)
    keys = [jax.random.key(experiment.seed + i) for i in range(experiment.seeds)]
    return make, keys, jax.eval_shape(lambda: stacked([make(key) for key in keys]))


class _Run:
    """One launch of one experiment: what its loop hands from step to step."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Workdir,
        layout: Layout,
        checkpoints: Checkpoints,
        interrupt: Interrupt,
        say: Callable[[str], None],
    ):
        self.experiment, self.workdir, self.layout = experiment, workdir, layout
        self.checkpoints, self.interrupt = checkpoints, interrupt
        self.say = say if hosts.first() else lambda line: None
        self.interval = Interval()
        self.for_seed = [experiment.for_seed(i) for i in range(experiment.seeds)]
        self.alarms = [Alarms() for _ in self.for_seed]
        self.evaluated: tuple[int, dict[str, float]] = -1, {}
        self.programs = functools.cache(self._compile)

    def _compile(self, schedule: Schedule) -> Run:
        return self.layout.compile(
            self.experiment.game,
            self.experiment.source,
            schedule=schedule,
            diagnostics=self.experiment.diagnostics,
        )

    def begin(self) -> TrainState:
        """The newest checkpoint's state, or a fresh one."""
        make, key, target = initial(self.experiment)
        if not self.checkpoints.steps():
            return self.layout.begin(make, key)
        restored = self.checkpoints.restore(target, shardings=self.layout.shardings(target))
        self.checkpoints.discard_after(restored.step)
        self.interval = Interval(restored.metadata["sums"], restored.metadata["counts"])
        source = self.experiment.source
        if source.restore is not None and restored.payload is not None:
            source.restore(restored.payload)
        self.say(f"Resuming {self.workdir.root} at round {restored.step}.")
        return restored.state

    def play(self) -> TrainState:
        """The loop."""
        experiment = self.experiment
        source = within(self.layout.local_source(experiment.source), experiment.data_timeout)
        state = self.begin()
        device_data = self.layout.place(source.device_data)
        if self.layout.message:
            self.say(self.layout.message)
        step, cursor = int(state.step), int(state.cursor)
        capacity = experiment.rounds_per_dispatch
        most = 1

        resumed = step if self.checkpoints.steps() else None

        writing = Writer(
            self.workdir,
            resumed_from=resumed,
            keep_pictures=experiment.keep_pictures,
            enabled=hosts.first(),
        )
        with writing as writer, self.alarmed(writer):
            if resumed is not None and hosts.first():
                self.recall()
            bar = progress(experiment.rounds, start=step, enabled=hosts.first())
            while step < experiment.rounds:
                # Rounds, in one dispatch; the processes play as many, and stop together.
                most, stopped = self.agreed(most)
                if stopped:
                    break
                began = time.perf_counter()
                rounds = rounds_until(experiment, step, min(most, capacity))
                schedule = schedule_at(experiment.game, step)
                turns = fresh_turns(schedule)
                host_batches = stack_rounds(source, cursor, turns, rounds, capacity)
                state, metrics = self.programs(schedule)(state, device_data, host_batches, rounds)
                history = {name: np.asarray(values)[:rounds] for name, values in metrics.items()}
                leaf = functools.partial(self.first_broken, state)
                check_losses(history, step, self.good, self.first_seed, leaf)
                self.interval.add(history)
                step, cursor = step + rounds, cursor + rounds * turns
                pace = rounds / (time.perf_counter() - began)
                most = min(max(1, math.ceil(SECONDS_PER_DISPATCH * pace)), 8 * most)

                # Writing and saving, each at its own pace.
                def due(every: int, step: int = step) -> bool:
                    return bool(every) and step % every == 0

                bar.update(step, _losses(history))
                views = functools.partial(self.views, state, device_data, host_batches, rounds, turns)
                if due(experiment.log_every):
                    self.log(writer, bar, step, views)
                if due(experiment.evaluate_every):
                    self.evaluate(writer, step, views())
                if due(experiment.sample_every) and step < experiment.rounds:
                    self.draw(writer, state, step)
                if self.saves(due) and step < experiment.rounds:
                    writer.flush()
                    self.save(state, step)
            bar.close()

            if step >= experiment.rounds:
                self.draw(writer, state, step)
            writer.flush()
            self.save(state, step, blocking=True)
        self.report(step)
        return state

    def agreed(self, most: int) -> tuple[int, bool]:
        """The rounds that the slowest process would play in a dispatch, and whether any was asked to stop."""
        asked = 0 if self.interrupt.by is None else signal.Signals[self.interrupt.by]
        told = hosts.agree(most, asked)
        if told[:, 1].any():
            self.interrupt.by = signal.Signals(told[:, 1].max()).name
        return int(told[:, 0].min()), self.interrupt.by is not None

    def views(
        self, state: TrainState, device_data: Tree, host_batches: Any, rounds: int, turns: int
    ) -> list[tuple[Experiment, TrainState, Callable[[], Batch]]]:
        """Every seed's experiment, state and last batch: looking at one more would take it from a stream."""
        if self.experiment.seeds == 1:
            host_batch = self.layout.pick(host_batches, rounds - 1, turns - 1)
            source = self.experiment.source
            return [(self.experiment, state, lambda: get_batch(source, state, host_batch, device_data))]

        def view(place: int) -> tuple[Experiment, TrainState, Callable[[], Batch]]:
            experiment, own = self.for_seed[place], state_of(state, place)
            host_batch = jax.tree.map(
                lambda x: x[place], self.layout.pick(host_batches, rounds - 1, turns - 1)
            )
            return experiment, own, lambda: get_batch(experiment.source, own, host_batch)

        return [view(place) for place in range(self.experiment.seeds)]

    def draw(self, writer: Writer, state: TrainState, step: int) -> None:
        """Draws the picture, of several seeds one each."""
        if self.experiment.seeds == 1:
            writer.picture(step, "samples", picture(self.experiment, state))
            return
        for place, experiment in enumerate(self.for_seed):
            drawn = picture(experiment, state_of(state, place))
            writer.picture(step, f"samples_seed_{experiment.seed}", drawn)

    def log(self, writer: Writer, bar: Progress, step: int, views: Callable[[], Sequence[Any]]) -> None:
        """Writes the means since the last log, the probes' view of now, and the alarms; new ones are said aloud."""
        metrics = self.interval.means()
        if self.experiment.probes:
            probed = [probe(experiment, state, batch()) for experiment, state, batch in views()]
            if self.experiment.seeds == 1:
                metrics = probed[0] | metrics
            else:
                metrics = {name: np.stack([one[name] for one in probed]) for name in probed[0]} | metrics
        if self.experiment.seeds > 1:
            metrics = summary(metrics)
        writer.scalars(step, metrics | self.alarm(metrics, step, bar.note))

    def alarm(self, metrics: Mapping[str, Any], step: int, note: Callable[[str], None]) -> dict[str, str]:
        """The alarms that hold, of several seeds each for itself; says those that are new."""
        texts: dict[str, list[str]] = {}
        for place, alarms in enumerate(self.alarms):
            single = self.experiment.seeds == 1
            of = "" if single else f"Seed {self.for_seed[place].seed}: "
            found = alarms.look(metrics if single else metrics_of_seed(metrics, place))
            for alarm in alarms.news(found):
                note(f"Alarm at round {step}: {alarm.name}. {of}{alarm}")
            for name, text in as_metrics(found).items():
                texts.setdefault(name, []).append(f"{of}{text}")
        return {name: " ".join(text) for name, text in texts.items()}

    def evaluate(self, writer: Writer, step: int, views: Sequence[Any]) -> None:
        """Writes the evaluation, and keeps its numbers for the checkpoint of this round."""
        each = [evaluate(experiment, state, batch()) for experiment, state, batch in views]
        evaluation = each[0] if len(each) == 1 else combined(each)
        written = log_of(evaluation)
        if len(each) > 1:
            logs = [log_of(one) for one in each]
            numbers = [name for name in written if is_number(written[name])]
            written |= summary({name: np.array([one[name] for one in logs]) for name in numbers})
        writer.scalars(step, written)
        self.evaluated = step, numbers_of(evaluation)
        best = self.experiment.best
        if best is not None and best.metric not in self.evaluated[1]:
            known = self.evaluated[1]
            raise ExperimentError(
                f"keep_best names {best.metric}{closest(best.metric, known)}, but the evaluations give "
                f"{', '.join(sorted(known))}."
            )

    def saves(self, due: Callable[[int], bool]) -> bool:
        """Whether this round is saved: at its own pace, and after every evaluation if the best is to be kept."""
        experiment = self.experiment
        return due(experiment.checkpoint_every) or (
            experiment.best is not None and due(experiment.evaluate_every)
        )

    def recall(self) -> None:
        """Shows the alarms the logs of an earlier launch: what is compared with them is as if it had gone on."""
        if not self.workdir.metrics.exists():
            return
        for line in read_metrics(self.workdir):
            if any(name not in ("step", "time") and not name.startswith(SEPARATE) for name in line):
                self.alarm(line, line["step"], lambda text: None)

    @contextlib.contextmanager
    def alarmed(self, writer: Writer) -> Iterator[None]:
        """Writes what is not finite into the log too, before the run ends by it."""
        try:
            yield
        except NonFiniteError as error:
            with contextlib.suppress(WriterError):  # This is the error to tell.
                writer.scalars(error.step, {"alarm/non_finite": str(error)})
            raise

    @property
    def first_seed(self) -> int | None:
        """The first of several seeds."""
        return self.experiment.seed if self.experiment.seeds > 1 else None

    def first_broken(self, state: TrainState) -> str:
        """Which parameter is not finite at a dispatch's end."""
        broken = broken_leaf(state, self.first_seed)
        return (
            ""
            if broken is None
            else f" By round {int(state.step)} the {broken[0]}'s {broken[1]} is not either."
        )

    def good(self) -> str:
        """What is saved, and how to go on from it."""
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        saved = (
            f"The last good checkpoint is round {steps[-1]}, in {self.workdir.checkpoints}"
            if steps
            else f"No checkpoint had been saved in {self.workdir.checkpoints}"
        )
        return f"{saved}; see what led here with --mode=replay --workdir={self.workdir.root}."

    def save(self, state: TrainState, step: int, blocking: bool = False) -> None:
        """Saves a state that is all numbers."""
        check_state(state, self.good, self.first_seed)
        source = self.experiment.source
        self.checkpoints.save(
            step,
            state,
            metadata={"sums": self.interval.sums, "counts": self.interval.counts},
            metrics=self.evaluated[1] if self.evaluated[0] == step else None,
            payload=None if source.state is None else source.state(),
            blocking=blocking,
        )

    def report(self, step: int) -> None:
        """Says what there is to see, or how to go on."""
        root = self.workdir.root
        if self.interrupt.by is not None:
            self.say(
                f"Stopped by {self.interrupt.by} at round {step}, saved. Go on with: "
                f"python launch.py --workdir={root}"
            )
            return
        self.say(f"Trained {step} rounds. Work directory: {root}")
        of = "samples" if self.experiment.seeds == 1 else f"samples_seed_{self.experiment.seed}"
        more = "" if self.experiment.seeds == 1 else ", one beside it for each further seed"
        self.say(
            f"Sample grid: {self.workdir.samples}/{of}_{step:08d}.png (open it with any image viewer{more})"
        )
        if (best := self.checkpoints.best()) is not None and self.experiment.best is not None:
            self.say(f"Best by {self.experiment.best.metric}: round {best} (--checkpoint={best})")
        self.say(
            f"Curves: tensorboard --logdir {root} (pip install tensorboard), or the lines of "
            f"{self.workdir.metrics}"
        )


def _losses(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Every player's loss in the last round, by player; of several seeds the mean."""
    return {
        name.removesuffix("/loss"): float(np.mean(v[-1]))
        for name, v in history.items()
        if name.endswith("/loss")
    }
