"""What `launch.py` does with its flags: it finds the experiment, then trains it or looks at its run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from gan_jax.data.errors import DataError, DataTimeoutError
from gan_jax.runs.workdir import (
    Workdir,
    WorkdirError,
    jsonable,
    read_config,
    refuse_links,
    write_atomically,
)
from gan_jax.training.experiment import Experiment, ExperimentError, closest, load_module


class UsageError(ValueError):
    """A command that cannot be carried out, in a line that says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What the flags asked for.

    Attributes:
      experiment: the experiment's file.
      config: its configuration with the command line's overrides.
      overrides: the names that the command line set.
      config_given: whether `--config` named the experiment.
      workdir: the run's directory, or `None`.
      override: go on although the configuration has changed.
      checkpoint: the round to evaluate or sample; `None` is the newest.
      num_samples: how many `--mode=sample` and `--mode=evaluate` draw; `None` is the experiment's own number.
      checkpoints, data, extractor, metrics: see `EVALUATION`.
      coordinator, num_processes, process_id: see `hosts.join`.
      until: the round that `--mode=replay` stops at; `None` is the one that the log names.
      prepare: download and prepare the configuration's TFDS data set before anything else.
    """

    experiment: str
    config: Any
    overrides: Sequence[str]
    config_given: bool
    workdir: str | None
    override: bool
    checkpoint: int | None
    num_samples: int | None
    checkpoints: str | None = None
    data: str | None = None
    extractor: str | None = None
    metrics: str | None = None
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    until: int | None = None
    prepare: bool = False


EVALUATION = {
    "checkpoints": "--mode=evaluate: all, best, or rounds as in 500,1000; --checkpoint or the newest by default.",
    "data": "--mode=evaluate: what samples are compared with: own (the default), tfds:NAME@SPLIT, an image folder, "
    "a .npz.",
    "extractor": "--mode=evaluate: pixels, classifier:DATA, or inception:FILE; the experiment's by default.",
    "metrics": "--mode=evaluate: some of frechet, kernel, score, neighbors, sliced, wasserstein; all by default.",
}
"""Flags that only `--mode=evaluate` reads, each a string, and what they say of themselves."""


def run(mode: str, request: Request) -> None:
    """Carries out `mode`, one of `MODES`; where this is one of several processes, with them."""
    import jax

    from gan_jax.distributed import hosts

    keep_compiled_programs()
    if not hosts.join(request.coordinator, request.num_processes, request.process_id):
        MODES[mode](request)
        return
    try:
        if mode != "train":
            raise UsageError(f"--mode={mode} is for one process: start it alone (--num_processes=1).")
        if request.workdir is None:
            raise UsageError("several processes need one --workdir, which all of them can reach.")
        MODES[mode](request)
    except Exception as error:
        # Not the common way out: that would wait for processes which may be gone.
        known = hosts.explained(error)
        if not isinstance(known, user_errors()):
            traceback.print_exc()
            hosts.leave(1)
        print(f"launch.py (process {jax.process_index()}): {explain(known)}", file=sys.stderr)
        hosts.leave(2)


def keep_compiled_programs() -> None:
    """Turns the persistent compilation cache on, unless `JAX_COMPILATION_CACHE_DIR` says otherwise.

    It lies in `$XDG_CACHE_HOME/gan_jax`, `~/.cache/gan_jax` by default; an empty variable turns it off.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gan_jax"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def given(argv: Sequence[str], name: str) -> str | None:
    """The value of a string flag as `argv` has it, before the flags are parsed; `None` if it is not there.

    >>> given(["launch.py", "--mode=train", "--workdir", "runs/a"], "workdir")
    'runs/a'
    """
    value = None
    for place, word in enumerate(argv):
        flag, equals, rest = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            value = rest if equals else next(iter(argv[place + 1 : place + 2]), None)
    return value


def default_experiment(argv: Sequence[str], default: str) -> str:
    """The experiment's file where `--config` does not name one: the work directory's own, else `default`."""
    workdir = given(argv, "workdir")
    if workdir is None or not Workdir(workdir).config.exists():
        return default
    return read_config(Workdir(workdir)).experiment or default


def resolve(request: Request) -> Any:
    """The configuration: a directory's own where `--config` was not given, with the command line's overrides."""
    config = request.config
    if request.workdir is None or request.config_given or not Workdir(request.workdir).config.exists():
        return config
    for name, value in read_config(Workdir(request.workdir)).config.items():
        if name in config and name not in request.overrides:
            config[name] = tuple(value) if isinstance(config[name], tuple) else value
    return config


def build(request: Request, config: Any) -> Experiment:
    """The experiment; whatever its file refuses is the user's to mend.

    Raises:
      UsageError, ExperimentError, DataError: each with a line for the user.
    """
    module = load_module(request.experiment)
    try:
        if request.prepare:
            prepare(config)
        return module.build(config)
    except (ExperimentError, DataError):
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def prepare(config: Any) -> None:
    """Prepares the TFDS data set that `config.data` names, unless it is there.

    Raises:
      UsageError: if it names none.
      DataError: if it cannot be downloaded or prepared.
    """
    from gan_jax.data.prepare import prepare as prepare_data
    from gan_jax.distributed import hosts

    _, found, name = str(config.get("data", "")).rpartition("tfds:")
    if not found:
        raise UsageError(f"--prepare is for --config.data=tfds:NAME; data is {config.get('data')!r}.")
    name = name.partition("@")[0]
    with hosts.first_goes_ahead():
        if hosts.first():
            prepare_data(name)
    prepare_data(name)  # where the processes have disks of their own


def build_seeds(request: Request, config: Any) -> Experiment:
    """The experiment, with the data of all its seeds where the configuration asks for several.

    Raises:
      UsageError: if the number of seeds is below 1; and as `build`.
    """
    seeds = config.get("seeds", 1)
    if seeds < 1:
        raise UsageError(f"seeds is 1 or more, got {seeds}.")
    if seeds == 1:
        return build(request, config)
    divide_cpu(seeds)
    built = []
    for place in range(seeds):
        own = config.copy_and_resolve_references()
        own.seed = config.seed + place
        built.append(build(request, own))
    return dataclasses.replace(built[0], extra_sources=tuple(one.source for one in built[1:]))


def divide_cpu(seeds: int) -> None:
    """Makes the CPU several devices, as many as it has cores as far as they divide `seeds`.

    Two seeds at a time on two cores are faster than one on both; two halves of a batch are not. Nothing is changed
    where `XLA_FLAGS` says how many devices there are, where this is one of several processes, and where JAX has
    begun already.
    """
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.distributed.is_initialized():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = max(n for n in range(1, min(seeds, cores) + 1) if seeds % n == 0)
    if devices == 1:
        return
    with contextlib.suppress(RuntimeError):  # where JAX has begun already
        jax.config.update("jax_num_cpu_devices", devices)


def train(request: Request) -> None:
    """Trains, or goes on training."""
    from gan_jax.runs import loop

    config = resolve(request)
    experiment = build_seeds(request, config)
    workdir = Workdir(request.workdir or new_workdir(pathlib.Path(request.experiment).stem))
    loop.train(
        experiment, workdir, config=config, name=_portable(request.experiment), override=request.override
    )


def evaluate(request: Request) -> None:
    """Writes `evaluation.json`, a list of what was found of each checkpoint, and prints its tables."""
    from gan_jax.evaluation import scoring
    from gan_jax.evaluation.evaluate import batches_of, get_batch
    from gan_jax.evaluation.evaluate import evaluate as evaluate_state
    from gan_jax.evaluation.seed_statistics import combined

    run = _open(request)
    host_batch_iterator = batches_of(run.experiment.source)
    first = next(host_batch_iterator)
    experiment = _scored(request, run, itertools.chain([first], host_batch_iterator))
    found = []
    run = dataclasses.replace(run, experiment=experiment)
    for state in run.states(_wanted(request, run)):
        each = [evaluate_state(e, own, get_batch(e.source, own, first)) for e, own in run.apart(state)]
        found.append(each[0] if len(each) == 1 else combined(each))
    if not found:
        raise UsageError("None of the checkpoints could be read.")
    text = json.dumps(jsonable({"checkpoints": found}, "evaluation"), indent=2) + "\n"
    path = run.workdir.root / "evaluation.json"
    write_atomically(path, text.encode())
    print(scoring.tables(found))
    print(f"Written to {path}")


def _scored(request: Request, run: _Opened, host_batch_iterator: Iterator[Any]) -> Experiment:
    """The experiment with the comparison that the flags ask for among its evaluations."""
    from gan_jax.evaluation import scoring

    experiment = run.experiment
    n = experiment.evaluation_samples if request.num_samples is None else request.num_samples
    if n < 2:
        raise UsageError(f"--num_samples is 2 or more to evaluate, got {n}.")
    experiment = dataclasses.replace(experiment, evaluation_samples=n)
    if "scores" in experiment.evaluations and not (request.data or request.extractor or request.metrics):
        return experiment
    real, words = scoring.reference(
        request.data or "", run.sample_shape(), experiment.source, n, host_batch_iterator
    )
    scores = scoring.against(
        real,
        extractor=request.extractor or experiment.extractor,
        split=words,
        which=tuple(filter(None, (request.metrics or "").split(","))),
        seed=experiment.seed,
    )
    return dataclasses.replace(experiment, evaluations={**experiment.evaluations, "scores": scores})


def _wanted(request: Request, run: _Opened) -> list[int | None]:
    """The rounds to evaluate; `None` is the newest that is whole."""
    given = request.checkpoints
    if given is None:
        return [request.checkpoint]
    if request.checkpoint is not None:
        raise UsageError("give --checkpoint or --checkpoints, not both.")
    if given == "best" and run.experiment.best is None:
        raise UsageError(
            "--checkpoints=best needs a run that was told what is best: --config.keep_best=METRIC."
        )
    with run.checkpoints() as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best()
    if given == "best":
        if best is None:
            raise UsageError(
                f"no checkpoint in {run.workdir.checkpoints} was evaluated yet: set evaluate_every."
            )
        return [best]
    if given == "all":
        return list(steps) or [None]
    try:
        return [int(step) for step in given.split(",")]
    except ValueError:
        raise UsageError(f"--checkpoints is all, best, or rounds as in 500,1000; got {given!r}.") from None


def sample(request: Request) -> None:
    """Writes samples of a checkpoint as a picture and an `.npz`."""
    import jax

    from gan_jax.evaluation import evaluate as evaluation
    from gan_jax.functional.batch import named_key
    from gan_jax.pictures.grids import to_png

    run = _open(request)
    n = run.experiment.picture_samples if request.num_samples is None else request.num_samples
    if n < 1:
        raise UsageError(f"--num_samples is 1 or more, got {n}.")
    (state,) = run.states([request.checkpoint])
    for experiment, own in run.apart(state):
        key = named_key(jax.random.key(experiment.seed), "picture")
        samples = evaluation.sample(experiment.game, own, key, n, conditions=experiment.conditions)
        run.workdir.samples.mkdir(parents=True, exist_ok=True)
        of = f"_seed_{experiment.seed}" if run.experiment.seeds > 1 else ""
        stem = run.workdir.samples / f"sampled_{int(state.step):08d}{of}"
        write_atomically(epath.Path(f"{stem}.png"), to_png(experiment.picture(samples)))
        packed = io.BytesIO()
        np.savez_compressed(packed, x=samples)
        write_atomically(epath.Path(f"{stem}.npz"), packed.getvalue())
        print(f"{n} samples of round {int(state.step)}: {stem}.png and {stem}.npz")


def describe(request: Request) -> None:
    """Prints what the experiment, or the run in the work directory, is made of and what a round costs."""
    from gan_jax.evaluation.describe import describe as describe_experiment

    if request.workdir is not None and not request.config_given:
        read_config(Workdir(request.workdir))
    print(describe_experiment(build(request, resolve(request))))


def replay(request: Request) -> None:
    """Plays the rounds before a number that was none again, and says what was not finite first."""
    from gan_jax.runs.replay import replay as play_again

    run = _open(request)
    play_again(run.experiment, run.workdir, checkpoint=request.checkpoint, until=request.until)


MODES: Mapping[str, Callable[[Request], None]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "describe": describe,
    "replay": replay,
}


def _open(request: Request) -> _Opened:
    """The run in the work directory."""
    if request.workdir is None:
        raise UsageError("say which run: --workdir=runs/...")
    workdir = Workdir(request.workdir)
    read_config(workdir)
    refuse_links(workdir)
    return _Opened(workdir, build_seeds(request, resolve(request)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Opened:
    """A run that is only read."""

    workdir: Workdir
    experiment: Experiment

    def checkpoints(self) -> Any:
        from gan_jax.runs.checkpoint import Checkpoints

        return Checkpoints(self.workdir.checkpoints, keep=self.experiment.keep, best=self.experiment.best)

    def target(self) -> Any:
        """The state's shapes."""
        from gan_jax.runs.loop import initial

        return initial(self.experiment)[2]

    def states(self, steps: Sequence[int | None]) -> Iterator[Any]:
        """The states of these rounds, on all devices; of several, those that cannot be read are left out aloud."""
        from gan_jax.runs.checkpoint import CheckpointError
        from gan_jax.runs.loop import layout_of

        target = self.target()
        places = layout_of(self.experiment).shardings(target)
        with self.checkpoints() as checkpoints:
            for step in steps:
                try:
                    yield checkpoints.restore(target, step, shardings=places).state
                except CheckpointError as error:
                    if len(steps) == 1:
                        raise
                    print(f"Left out: {explain(error)}", file=sys.stderr)

    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        from gan_jax.evaluation import evaluate as evaluation
        from gan_jax.runs.loop import initial

        return evaluation.sample_shape(self.experiment, initial(self.experiment.for_seed(0))[2])

    def apart(self, state: Any) -> list[tuple[Experiment, Any]]:
        """Each seed's experiment and its part of the state."""
        from gan_jax.distributed.seeds import state_of

        if self.experiment.seeds == 1:
            return [(self.experiment, state)]
        return [(self.experiment.for_seed(i), state_of(state, i)) for i in range(self.experiment.seeds)]


def new_workdir(name: str) -> str:
    """`runs/name-1`, or the first number that is not taken."""
    number = 1
    while (pathlib.Path("runs") / f"{name}-{number}").exists():
        number += 1
    return f"runs/{name}-{number}"


def _portable(path: str) -> str:
    """A path below the working directory is recorded relative to it, so that the run can be moved with the code."""
    absolute = pathlib.Path(path).resolve()
    here = pathlib.Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def user_errors() -> tuple[type[BaseException], ...]:
    """What a user can cause, each with a message for the user; anything else is a bug and keeps its traceback."""
    from absl import flags

    from gan_jax.distributed.hosts import HostsError
    from gan_jax.distributed.mesh import LayoutError
    from gan_jax.runs.checkpoint import CheckpointError
    from gan_jax.runs.loop import NonFiniteError

    return (
        HostsError,
        flags.Error,
        UsageError,
        ExperimentError,
        DataError,
        WorkdirError,
        CheckpointError,
        LayoutError,
        NonFiniteError,
    )


def explain(error: BaseException, fields: Sequence[str] = ()) -> str:
    """An error in one line for the user.

    >>> explain(AttributeError("'objectiv'"), ["objective", "rounds"])
    "unknown field --config.objectiv (did you mean 'objective'?); the fields are objective, rounds."
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, AttributeError | KeyError) and fields:
        name = re.findall(r"[A-Za-z_]\w*", text)[0]
        known = ", ".join(sorted(fields))
        return f"unknown field --config.{name}{closest(name, fields)}; the fields are {known}."
    unknown = re.match(r"Unknown command line flag '(.+?)'", text)
    if unknown:
        from absl import flags

        name = unknown[1]
        return f"unknown flag --{name}{closest(name, list(flags.FLAGS))}; see python launch.py --help."
    return text


def fail(error: BaseException, fields: Sequence[str] = ()) -> None:
    """Prints the error's line to stderr and exits with 2."""
    print(f"launch.py: {explain(error, fields)}", file=sys.stderr)
    if isinstance(error, DataTimeoutError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)  # an orderly end would wait for the thread that hangs
    sys.exit(2)
