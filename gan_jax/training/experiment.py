"""Experiment: all that a run needs, built from a configuration."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np

from gan_jax.data.source import Source
from gan_jax.diagnostics.probe import Probe
from gan_jax.game import Diagnostic, Game, GeneratorRole
from gan_jax.types import Batch

Picture: TypeAlias = Callable[[np.ndarray], np.ndarray]
Evaluation: TypeAlias = Callable[[np.ndarray], Any]


class ExperimentError(ValueError):
    """An experiment that cannot be found or built, in a line that says what to do."""


@dataclasses.dataclass(frozen=True)
class Best:
    """Which checkpoints to keep beside the latest: the `keep` best by a metric given to `save`.

    Attributes:
      metric: its name in `save(..., metrics=...)`; steps saved without it, or with NaN, are no candidates.
      keep: how many.
      mode: whether the least or the greatest value is best. Ties go to the later step.
    """

    metric: str
    keep: int = 1
    mode: Literal["min", "max"] = "min"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A game, its data and what is to be seen of it.

    Attributes:
      game: the game.
      source: its data.
      seed: of the run: initial parameters and every draw.
      rounds: how many are to be played.
      log_every, checkpoint_every, sample_every, evaluate_every: rounds between two of each; 0 is never
        (a run always saves and draws its picture at its end).
      rounds_per_dispatch: K, rounds on the device between two looks of the host.
      parallelism: see `sharding.make_layout`.
      extra_sources: the sources of further seeds, `seed` + 1 and so on, to be trained in the same program.
      picture: `samples [N, ...] -> uint8 [H, W, C]`; or, by name, one for each generator.
      picture_samples: N.
      condition_batch: `n -> a batch [n, ...]` of what the generators' conditions are read off, for pictures:
        labels `y`, images `condition`.
      evaluation_batch: the same for evaluations, whose samples are compared with the data: labels by the shares
        that they have there. `condition_batch` where it is `None`.
      evaluations: by name, `samples [N, ...] -> {metric: number}`, or `Scores` with their fingerprint; the one
        named `scores` gives way to what `--mode=evaluate` is asked to compare with. Of several generators each is
        evaluated by those whose name begins with its own and a slash, `generator_ab/scores`.
      evaluation_samples: N.
      extractor: the features that `--mode=evaluate` compares by, as `scoring.extractor_named` has it.
      diagnostics: read inside the jitted step, every turn.
      probes: read at each log.
      data_timeout: seconds that one reading of the source may take; then the run ends with a message.
      keep: checkpoints to keep, newest first.
      keep_pictures: pictures of each name to keep, newest first; 0 keeps all.
      best: which checkpoint to keep beside those, by a number of the evaluations; see `best_by`.
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
    extra_sources: tuple[Source, ...] = ()
    condition_batch: Callable[[int], Batch] = lambda n: {}
    evaluation_batch: Callable[[int], Batch] | None = None
    evaluations: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    evaluation_samples: int = 2500
    extractor: str = ""
    diagnostics: Sequence[Diagnostic] = ()
    probes: Sequence[Probe] = ()
    data_timeout: float = 600.0
    keep: int = 3
    keep_pictures: int = 500
    best: Best | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "log_every", "rounds_per_dispatch", "keep"):
            if getattr(self, name) < 1:
                raise ExperimentError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        for name in ("checkpoint_every", "sample_every", "evaluate_every", "keep_pictures"):
            if getattr(self, name) < 0:
                zero = "all" if name == "keep_pictures" else "never"
                raise ExperimentError(f"{name} must be 0 ({zero}) or more, got {getattr(self, name)}.")
        if self.extra_sources and self.parallelism != "jit":
            raise ExperimentError(
                f"Several seeds are trained whole, each on one device: parallelism=jit, got {self.parallelism!r}."
            )
        if self.best is not None and not self.evaluate_every:
            raise ExperimentError(
                f"The best checkpoint by {self.best.metric} is found by evaluations: set evaluate_every."
            )

    def picture_of(self, player: str) -> Picture:
        """How samples of a generator are drawn."""
        return self.picture[player] if isinstance(self.picture, Mapping) else self.picture

    def evaluations_of(self, player: str) -> dict[str, Evaluation]:
        """How samples of a generator are evaluated, by name."""
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
        """How many seeds are trained together."""
        return 1 + len(self.extra_sources)

    def for_seed(self, place: int) -> Experiment:
        """The experiment of one of the seeds."""
        source = (self.source, *self.extra_sources)[place]
        return dataclasses.replace(self, seed=self.seed + place, source=source, extra_sources=())


LOWEST = frozenset(
    {"frechet", "fid", "kernel", "kid", "sliced_wasserstein", "wasserstein_1", "reverse_kl", "loss"}
)
"""Numbers of which the lowest is best."""
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
"""Numbers of which the highest is best."""


def best_by(text: str) -> Best | None:
    """What `keep_best` names: a number of the evaluations, `min:` or `max:` before it where that is not known.

    Args:
      text: `frechet`, `min:class_gap`, `samples/raw/frechet`; a bare name is of the moving average's samples where
        there is one. Nothing keeps nothing.

    Raises:
      ExperimentError: if it is not known whether the lowest or the highest is best.

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
            raise ExperimentError(f"keep_best is a metric, min:METRIC or max:METRIC, got {text!r}.")
        return Best(metric, mode="min" if mode == "min" else "max")
    if last not in LOWEST | HIGHEST:
        raise ExperimentError(
            f"keep_best={text!r}: say min:{text} or max:{text}, whichever is best; known are "
            f"{', '.join(sorted(LOWEST | HIGHEST))}."
        )
    return Best(metric, mode="min" if last in LOWEST else "max")


def choose(what: str, name: str, among: Mapping[str, Any]) -> Any:
    """`among[name]`, for what a configuration names by a string.

    Raises:
      ExperimentError: if there is no such name; says which there are and which is closest.

    >>> choose("objective", "gan", {"gan": 1, "wgan": 2})
    1
    """
    if name in among:
        return among[name]
    raise ExperimentError(
        f"Unknown {what} {name!r}{closest(name, among)}: choose one of {', '.join(sorted(among))}."
    )


def closest(name: str, among: Any) -> str:
    """`, did you mean 'x'?` for the most similar name, or nothing."""
    import difflib

    similar = difflib.get_close_matches(name, list(among), n=1, cutoff=0.5)
    return f" (did you mean {similar[0]!r}?)" if similar else ""


def load_module(path: str | pathlib.Path) -> ModuleType:
    """The experiment's file as a module with `get_config` and `build`.

    Raises:
      ExperimentError: if the file is missing or lacks one of them.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        here = sorted(p.stem for p in path.parent.glob("*.py") if p.stem != "__init__")
        hint = f"; {path.parent} has {', '.join(here)}" if here else ""
        raise ExperimentError(f"No experiment at {path}{closest(path.stem, here)}{hint}.")
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("get_config", "build"):
        if not hasattr(module, name):
            raise ExperimentError(f"{path} is not an experiment: it has no function {name}.")
    return module
