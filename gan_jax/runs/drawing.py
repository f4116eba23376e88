"""Pictures of a run at its cadence, and at its end."""

from __future__ import annotations

from gan_jax.distributed.seeds import state_of
from gan_jax.evaluation.sampling import pictures
from gan_jax.runs.part import Played, every
from gan_jax.runs.writer import Writer
from gan_jax.training.experiment import Experiment


class Draw:
    """Draws a picture of every generator, of several seeds one each.

    A picture is drawn here and not on the writer's thread, which encodes and writes it: one that fails has to be
    noticed while its round is the newest, so that the state of that round is saved with what is still due.

    Args:
      experiment: what is trained.
      writer: where the pictures are written.
    """

    name = "draw"
    can_wait = True

    def __init__(self, experiment: Experiment, writer: Writer):
        self._experiment = experiment
        self._writer = writer

    def due(self, step: int) -> bool:
        """At the experiment's `sample_every`, and at the end."""
        return every(self._experiment.sample_every, step) or step >= self._experiment.rounds

    def run(self, played: Played) -> None:
        """Writes `samples/samples_<step>.png`, of several generators `samples/samples_<player>_<step>.png`."""
        if self._experiment.seeds == 1:
            for name, draw in pictures(self._experiment, played.state).items():
                self._writer.picture(played.step, name, draw())
            return
        for place in range(self._experiment.seeds):
            experiment = self._experiment.for_seed(place)
            for name, draw in pictures(experiment, state_of(played.state, place)).items():
                self._writer.picture(played.step, f"{name}_seed_{experiment.seed}", draw())
