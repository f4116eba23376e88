"""A run in a work directory that is only read."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gan_jax.cli import changes
from gan_jax.cli.building import build_seeds
from gan_jax.cli.errors import UsageError, explain
from gan_jax.cli.request import WEIGHTS, Request, parse_standing, resolve
from gan_jax.runs.config import read_config
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir, refuse_links
from gan_jax.training.experiment import Experiment

if TYPE_CHECKING:
    import jax

    from gan_jax.runs.checkpoint import Restored


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run that is only read.

    Attributes:
      workdir: where it is.
      experiment: what was trained there, as far as its code and data are those of then.
      changed: what is another now than when it was trained, see `changes.changes`.
    """

    workdir: Workdir
    experiment: Experiment
    changed: tuple[str, ...] = ()

    def checkpoints(self) -> Any:
        from gan_jax.runs.checkpoint import Checkpoints

        return Checkpoints(self.workdir.checkpoints, keep=self.experiment.keep, best=self.experiment.best)

    def target(self) -> Any:
        """The state's shapes."""
        from gan_jax.runs.opening import initial

        return initial(self.experiment)[2]

    def restored(
        self, steps: Sequence[int | None], devices: Sequence[jax.Device] | None = None
    ) -> Iterator[Restored]:
        """The checkpoints of these rounds; of several, unreadable ones are reported and left out.

        Says where `--override` changed the run after a round was saved.

        Args:
          steps: the rounds; `None` is the newest.
          devices: where each state is replicated; by default it lies on all devices as in the training.
        """
        from gan_jax.distributed import hosts
        from gan_jax.distributed.layout import make_layout
        from gan_jax.runs.checkpoint import CheckpointError
        from gan_jax.runs.opening import layout_of

        target = self.target()
        layout = layout_of(self.experiment) if devices is None else make_layout("jit", devices)
        places = layout.shardings(target)
        with self.checkpoints() as checkpoints:
            for step in steps:
                try:
                    found = checkpoints.restore(target, step, shardings=places)
                except CheckpointError as error:
                    if len(steps) == 1:
                        raise
                    tell(f"Left out: {explain(error)}", sys.stderr)
                    continue
                if hosts.first() and (said := changes.later_message(self.workdir, found.step)):
                    tell(said, sys.stderr)
                yield found

    def generators(self, player: str | None) -> tuple[str, ...]:
        """The players that make samples, or the one named.

        Raises:
          UsageError: if the one named is not among them.
        """
        from gan_jax.evaluation.sampling import generators_of

        try:
            return generators_of(self.experiment.game, player)
        except ValueError as error:
            raise UsageError(f"--player: {error}") from error

    def weights(self, request: Request) -> str | None:
        """Which of a generator's weights `--weights` asks for, `ema` or `raw`; `None` where it is not given.

        Raises:
          UsageError: if it is neither, or no generator keeps an average.
        """
        if request.weights not in (None, *WEIGHTS):
            raise UsageError(f"--weights is one of {', '.join(WEIGHTS)}, got {request.weights!r}.")
        players = self.experiment.game.players
        if request.weights == "ema" and all(players[name].ema is None for name in self.generators(None)):
            raise UsageError("--weights=ema: no generator of this run keeps a moving average (--config.ema).")
        return request.weights

    def different_samples(
        self, request: Request, experiment: Experiment, player: str, n: int, *, evaluates: bool
    ) -> int:
        """How many of `n` samples do not repeat one another.

        Args:
          request: the request.
          experiment: a seed's.
          player: the generator.
          n: the number of samples, by `--num_samples` or by default.
          evaluates: whether they are those of an evaluation, or of a picture.

        Raises:
          UsageError: if there are fewer than `--num_samples` asks for, of a generator that makes them of conditions
            alone.
        """
        from gan_jax.evaluation.repetitions import different_samples

        conditions = experiment.condition_batch
        if evaluates:
            conditions = experiment.evaluation_batch or conditions
        different = different_samples(experiment.game, player, n, conditions)
        if request.num_samples is not None and different < n:
            raise UsageError(
                f"--num_samples={n}: {player} makes samples of conditions alone, of which the run keeps "
                f"{different}, so that the others would be repetitions: give {different} at most."
            )
        return different

    def sample_shape(self, player: str) -> tuple[int, ...]:
        """The shape of one sample of a generator."""
        from gan_jax.evaluation import sampling
        from gan_jax.runs.opening import initial

        return sampling.sample_shape(self.experiment, initial(self.experiment.for_seed(0))[2], player)

    def standing(self, request: Request) -> int | None:
        """From how many batches `--standing_statistics` asks for running statistics; `None` where it is not given.

        Raises:
          UsageError: if it is no number of batches, or no generator has running statistics.
        """
        from gan_jax.evaluation.standing import has_statistics
        from gan_jax.runs.opening import initial

        asked = parse_standing(request.standing_statistics)
        if asked is None:
            return None
        if not has_statistics(self.experiment.game, initial(self.experiment)[2]):
            raise UsageError(
                "--standing_statistics: no generator of this run has running statistics (of batch normalisation)."
            )
        return asked

    def single_seeds(self) -> list[Experiment]:
        """Each seed's experiment."""
        seeds = self.experiment.seeds
        return [self.experiment] if seeds == 1 else [self.experiment.for_seed(i) for i in range(seeds)]

    def per_seed(self, state: Any, standing: int | None = None) -> list[tuple[Experiment, Any]]:
        """Each seed's experiment and its part of the state.

        Args:
          state: of all seeds.
          standing: compute the generators' running statistics again, from so many batches.

        Raises:
          UsageError: if they cannot be computed again.
        """
        from gan_jax.distributed.seeds import state_of
        from gan_jax.evaluation.standing import standing_of

        experiments = self.single_seeds()
        states = [state] if len(experiments) == 1 else [state_of(state, i) for i in range(len(experiments))]
        single = list(zip(experiments, states, strict=True))
        if standing is None:
            return single
        try:
            return [(seed, standing_of(seed, seed_state, standing)) for seed, seed_state in single]
        except ValueError as error:
            raise UsageError(f"--standing_statistics: {error}") from error


def open_run(request: Request) -> OpenedRun:
    """The run in the work directory; says what is another now than when it was trained."""
    from gan_jax.distributed import hosts

    if request.workdir is None:
        raise UsageError("name the run: --workdir=runs/...")
    workdir = Workdir(request.workdir)
    read_config(workdir)
    refuse_links(workdir)
    config = resolve(request)
    experiment = build_seeds(request, config)
    changed = changes.changes(workdir, config, experiment, request.experiment)
    if changed and hosts.first():
        tell(changes.message(workdir, changed), sys.stderr)
    return OpenedRun(workdir, experiment, changed)
