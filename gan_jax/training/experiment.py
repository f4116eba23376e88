"""Experiments: everything that a run needs, made from a configuration."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np

from gan_jax.data.source import Source
from gan_jax.diagnostics.probe import Probe
from gan_jax.game import Diagnostic, Game, GeneratorRole
from gan_jax.precision import MATMUL_PRECISIONS
from gan_jax.schedule import fresh_turns
from gan_jax.types import Batch

Picture: TypeAlias = Callable[[np.ndarray], np.ndarray]
Evaluation: TypeAlias = Callable[[np.ndarray], Any]


class ExperimentError(ValueError):
    """An experiment that cannot be found or constructed; the message is one line and says what to do."""


@dataclasses.dataclass(frozen=True)
class Best:
    """A rule for checkpoints to keep in addition to the latest: the `keep` best by a metric passed to `save`.

    Attributes:
      metric: its name in `save(..., metrics=...)`; steps saved without it, or with NaN, are not considered.
      keep: the number of checkpoints.
      mode: whether the least or the greatest value is best. Ties go to the later step.
    """

    metric: str
    keep: int = 1
    mode: Literal["min", "max"] = "min"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A game with its data, and the logs, pictures and evaluations of a run.

    Attributes:
      game: the game.
      source: its data.
      seed: the seed of the run, for initial parameters and all draws.
      rounds: the number of rounds to play.
      log_every, checkpoint_every, sample_every, evaluate_every: the intervals of these in rounds; 0 is never (a run
        always saves and draws its picture at its end).
      rounds_per_dispatch: K, the largest number of rounds on the device between two actions of the host.
      parallelism: see `distributed.layout.make_layout`.
      matmul_precision: of the training's products of float32 arrays, `default` (the platform's: TF32 on an NVIDIA
        GPU, bfloat16 on a TPU), `high` or `highest`; see `gan_jax.precision`.
      extra_sources: the sources of extra seeds, `seed` + 1 and so on, to be trained in the same program.
      extra_fields: what else of each extra seed's experiment is its own, fields by name: what it held out, its
        evaluations and probes. Empty where all seeds are evaluated alike.
      picture: `samples [N, ...] -> uint8 [H, W, C]`; or such a function for each generator, by name.
      picture_samples: the number of samples in a picture.
      condition_batch: `n -> batch [n, ...]` from which the generators' conditions are read for pictures: labels
        `y`, images `condition`.
      evaluation_batch: the same for evaluations, whose samples are compared with the data: labels by the shares
        that they have there. `condition_batch` where it is `None`.
      classes: the names of the classes that the labels of `condition_batch` number, 0, 1, ...; where it is empty
        they are called by their numbers.
      evaluations: by name, `samples [N, ...] -> {metric: number}`, or `Scores` with their fingerprint. Those with a
        method `with_intervals` (`SampleMeasure`, `scoring.Against`) have intervals in `--mode=evaluate`. The
        comparison that `--mode=evaluate` is asked for replaces the one named `scores`. With several generators an
        evaluation is named after its generator, `generator_ab/scores`.
      evaluation_samples: the number of samples in an evaluation.
      extractor: the features for the comparison of `--mode=evaluate`, see `scoring.extractor_named`.
      held_out: real examples `[N, ...]` that the game is not trained on, which that comparison is with; `None`
        compares with the training data. Where generators imitate several entries of a batch they are of `x`.
      diagnostics: computed inside the jitted step, in every turn.
      probes: evaluated at each log.
      recipe: by name, numbers of the training that are logged as they are in a round: `round -> number`, the
        learning rate.
      data_timeout: the longest time in seconds for reading from the source before the run ends with an error.
      keep: the number of newest checkpoints to keep.
      keep_pictures: the number of newest pictures of each name to keep; 0 keeps all.
      best: a rule for extra checkpoints to keep, by a number of the evaluations; see `best_by`.
      notes: lines to be printed when training begins, such as how an option was chosen.
    """

    game: Game
    source: Source
    seed: int
    rounds: int
    log_every: int
    checkpoint_every: int
    sample_every: int
    picture: Picture | Mapping[str, Picture]
    picture_samples: int = 100
    evaluate_every: int = 0
    rounds_per_dispatch: int = 100
    parallelism: str = "jit"
    matmul_precision: str = "default"
    extra_sources: tuple[Source, ...] = ()
    extra_fields: tuple[Mapping[str, Any], ...] = ()
    condition_batch: Callable[[int], Batch] = lambda n: {}
    evaluation_batch: Callable[[int], Batch] | None = None
    classes: tuple[str, ...] = ()
    evaluations: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    evaluation_samples: int = 2500
    extractor: str = ""
    held_out: np.ndarray | None = None
    diagnostics: Sequence[Diagnostic] = ()
    probes: Sequence[Probe] = ()
    recipe: Mapping[str, Callable[[int], float]] = dataclasses.field(default_factory=dict)
    data_timeout: float = 600.0
    keep: int = 3
    keep_pictures: int = 500
    best: Best | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rounds", "log_every", "rounds_per_dispatch", "keep"):
            if getattr(self, name) < 1:
                raise ExperimentError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        if self.rounds * max(fresh_turns(self.game.schedule), 1) >= 2**31:
            raise ExperimentError(
                f"rounds={self.rounds} are too many: a state counts the batches of a run in 32 bits, to 2^31 - 1."
            )
        for name in ("checkpoint_every", "sample_every", "evaluate_every", "keep_pictures"):
            if getattr(self, name) < 0:
                zero = "all" if name == "keep_pictures" else "never"
                raise ExperimentError(f"{name} must be 0 ({zero}) or more, got {getattr(self, name)}.")
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise ExperimentError(
                f"matmul_precision is one of {', '.join(MATMUL_PRECISIONS)}, got {self.matmul_precision!r}."
            )
        if self.extra_sources and self.parallelism != "jit":
            raise ExperimentError(
                f"Several seeds are trained on a device each: use parallelism=jit, got {self.parallelism!r}."
            )
        if self.extra_fields and len(self.extra_fields) != len(self.extra_sources):
            raise ExperimentError(
                f"extra_fields are of {len(self.extra_fields)} extra seeds, and there are "
                f"{len(self.extra_sources)}."
            )
        if self.best is not None and not self.evaluate_every:
            raise ExperimentError(
                f"The best checkpoint by {self.best.metric} is found by evaluations: set evaluate_every."
            )

    def picture_of(self, player: str) -> Picture:
        """The function that draws a picture of a generator's samples."""
        return self.picture[player] if isinstance(self.picture, Mapping) else self.picture

    def evaluations_of(self, player: str) -> dict[str, Evaluation]:
        """The evaluations of a generator's samples, by name."""
        if len(self.game.objective.with_role(GeneratorRole)) == 1:
            return dict(self.evaluations)
        prefix = f"{player}/"
        return {
            name.removeprefix(prefix): evaluation
            for name, evaluation in self.evaluations.items()
            if name.startswith(prefix)
        }

    @property
    def seeds(self) -> int:
        """The number of seeds in this run."""
        return 1 + len(self.extra_sources)

    def for_seed(self, place: int) -> Experiment:
        """The experiment of a single seed, by its index."""
        sources = (self.source, *self.extra_sources)
        own = dict(self.extra_fields[place - 1]) if place and self.extra_fields else {}
        own |= {"seed": self.seed + place, "source": sources[place], "extra_sources": (), "extra_fields": ()}
        return dataclasses.replace(self, **own)


LOWEST = frozenset(
    {"frechet", "fid", "kernel", "kid", "sliced_wasserstein", "wasserstein_1", "reverse_kl", "loss"}
)
"""Metrics of which lower values are better."""
HIGHEST = frozenset(
    {
        "precision",
        "recall",
        "density",
        "coverage",
        "classifier_score",
        "inception_score",
        "modes_covered",
        "high_quality_share",
        "entropy",
    }
)
"""Metrics of which higher values are better."""


def best_by(text: str) -> Best | None:
    """Parses `keep_best`: a metric of the evaluations, after `min:` or `max:` unless its direction is known.

    Args:
      text: `frechet`, `min:class_gap`, `samples/raw/frechet`; a name without a path refers to the samples of the
        moving average, if there is one. An empty text is no rule.

    Raises:
      ExperimentError: if it is unknown whether lower or higher values are better.

    >>> best_by("frechet"), best_by("")
    (Best(metric='frechet', keep=1, mode='min'), None)
    >>> best_by("max:share_of_sevens").mode
    'max'
    """
    if not text:
        return None
    mode, colon, metric = text.rpartition(":")
    last = metric.rpartition("/")[2]
    if colon:
        if mode not in ("min", "max") or not metric:
            raise ExperimentError(f"keep_best must be a metric, min:METRIC or max:METRIC, got {text!r}.")
        return Best(metric, mode="min" if mode == "min" else "max")
    if last not in LOWEST | HIGHEST:
        raise ExperimentError(
            f"keep_best={text!r} needs a direction, min:{text} or max:{text}; it is known for "
            f"{', '.join(sorted(LOWEST | HIGHEST))}."
        )
    return Best(metric, mode="min" if last in LOWEST else "max")


def choose(what: str, name: str, among: Mapping[str, Any]) -> Any:
    """Looks up `among[name]` for a name in a configuration.

    Raises:
      ExperimentError: if there is no such name; the message lists the names and the closest.

    >>> choose("objective", "gan", {"gan": 1, "wgan": 2})
    1
    """
    if name in among:
        return among[name]
    raise ExperimentError(
        f"Unknown {what} {name!r}{closest(name, among)}: choose one of {', '.join(sorted(among))}."
    )


def closest(name: str, among: Any) -> str:
    """A hint ` (did you mean 'x'?)` at the most similar name, or an empty text."""
    import difflib

    similar = difflib.get_close_matches(name, list(among), n=1, cutoff=0.5)
    return f" (did you mean {similar[0]!r}?)" if similar else ""


def load_module(path: str | pathlib.Path) -> ModuleType:
    """Loads an experiment's file as a module with `get_config` and `build`; it may import modules from beside it.

    A third function, `resolve(config) -> config`, may make the choices that a configuration leaves open, as a rule
    to the device; a run records the configuration that it returns.

    Raises:
      ExperimentError: if the file is missing, lacks one of them, is no Python, or imports what is not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ExperimentError(f"No experiment at {path}.")
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ExperimentError(f"{path} is not an experiment: that is a Python file, whose name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # behind all others: it replaces no installed module
    sys.modules[spec.name] = module  # dataclasses, Flax's modules among them, look their annotations up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ExperimentError(f"{error.filename}, line {error.lineno}: {error.msg}.") from error
    except ModuleNotFoundError as error:
        hint = ": outside a checkout they are gan_jax_experiments" if error.name == "experiments" else ""
        raise ExperimentError(f"{path} imports {error.name!r}, which is not installed{hint}.") from error
    check_experiment(module, path)
    return module


def check_experiment(module: ModuleType, path: pathlib.Path) -> None:
    """Checks that a module has `get_config` and `build`.

    Raises:
      ExperimentError: naming the one that it lacks.
    """
    for name in ("get_config", "build"):
        if not hasattr(module, name):
            raise ExperimentError(f"{path} is not an experiment: it has no function {name}.")
