"""Pictures of a run at its cadence, and at its end."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from gan_jax.data.errors import DAMAGED
from gan_jax.distributed import hosts
from gan_jax.distributed.seeds import state_of
from gan_jax.evaluation.sampling import generators_of, picture_name, picture_samples
from gan_jax.pictures.grids import Picture, side_by_side
from gan_jax.runs.files import read_regular, write_atomically
from gan_jax.runs.part import Played, every
from gan_jax.runs.workdir import Workdir
from gan_jax.runs.writer import Writer
from gan_jax.training.experiment import Experiment

_BESIDE = ("moving average", "weights")
"""Above the two halves of a picture."""
_UNDRAWN = re.compile(r"undrawn_(.+)_(\d{8,})\.npy")
_DRAWN = re.compile(r"(.+)_(\d{8,})\.png")


class Draw:
    """Draws a picture of every generator, of several seeds one each.

    Where a generator keeps a moving average, its samples are on the left and those of the weights themselves on the
    right, with a caption above each, unless the two are equal.

    The samples are computed by the training thread, since the next dispatch takes the state's buffers; the writer's
    thread draws, encodes and writes the picture while training goes on. If a picture cannot be drawn, its samples
    are kept beside the pictures in `undrawn_<name>_<step>.npy`, `failure` holds the error, and the next launch
    draws it.

    Args:
      experiment: what is trained.
      workdir: where the pictures are written.
      writer: by whom.
    """

    name = "draw"
    can_wait = True
    in_background = True

    def __init__(self, experiment: Experiment, workdir: Workdir, writer: Writer):
        self._experiment = experiment
        self._workdir = workdir
        self._writer = writer
        self.failure: Exception | None = None
        self.failed_at = 0

    def due(self, step: int) -> bool:
        """At the experiment's `sample_every`, and at the end."""
        return every(self._experiment.sample_every, step) or step >= self._experiment.rounds

    def run(self, played: Played) -> None:
        """Has `samples/samples_<step>.png` written, of several generators `samples/samples_<player>_<step>.png`."""
        for place in range(self._experiment.seeds):
            experiment = self._of_seed(place)
            state = played.state if self._experiment.seeds == 1 else state_of(played.state, place)
            for player in generators_of(experiment.game):
                samples = picture_samples(experiment, state, player)
                self._draw(played.step, self._name_of(place, player), samples, experiment.picture_of(player))

    def resume(self, step: int, due: Sequence[str]) -> None:
        """Draws what launches before could not draw up to the round that the run goes on from.

        Pictures of later rounds are removed, as their lines are from the log: the run may go on otherwise.

        Args:
          step: this round.
          due: the names of the parts that are still due at it, which are done anyway.
        """
        if not hosts.first() or not self._workdir.samples.exists():
            return
        functions = {
            self._name_of(place, player): self._of_seed(place).picture_of(player)
            for place in range(self._experiment.seeds)
            for player in generators_of(self._experiment.game)
        }
        for path in sorted(self._workdir.samples.iterdir()):
            if (drawn := _DRAWN.fullmatch(path.name)) is not None:
                if drawn[1] in functions and int(drawn[2]) > step:
                    _remove(path)
                continue
            found = _UNDRAWN.fullmatch(path.name)
            if found is None:
                continue
            name, of_step = found[1], int(found[2])
            again = of_step > step or (of_step == step and self.name in due)
            if again or name not in functions or (samples := _read(path)) is None:
                _remove(path)
            else:
                self._draw(of_step, name, samples, functions[name])

    def _of_seed(self, place: int) -> Experiment:
        return self._experiment if self._experiment.seeds == 1 else self._experiment.for_seed(place)

    def _name_of(self, place: int, player: str) -> str:
        name = picture_name(generators_of(self._experiment.game), player)
        return name if self._experiment.seeds == 1 else f"{name}_seed_{self._experiment.seed + place}"

    def _draw(
        self, step: int, name: str, samples: Sequence[np.ndarray], function: Callable[[np.ndarray], Picture]
    ) -> None:
        def picture() -> Picture | None:
            kept = self._undrawn(name, step)
            try:
                pictures = [function(part) for part in samples]
                drawn = side_by_side(pictures, captions=_BESIDE if len(pictures) > 1 else ())
            except Exception as error:
                if self.failure is None:
                    self.failure, self.failed_at = error, step
                self._keep(kept, samples)
                return None
            kept.unlink(missing_ok=True)
            return drawn

        self._writer.picture(step, name, picture)

    def _undrawn(self, name: str, step: int) -> epath.Path:
        return self._workdir.samples / f"undrawn_{name}_{step:08d}.npy"

    def _keep(self, path: epath.Path, samples: Sequence[np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.stack(samples), allow_pickle=False)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, buffer.getvalue())


def _remove(path: epath.Path) -> None:
    with contextlib.suppress(OSError):  # a folder of this name, say, which is nobody's picture
        path.unlink(missing_ok=True)


def _read(path: epath.Path) -> list[np.ndarray] | None:
    """The samples of a picture that was not drawn; `None` where there is a link, a pipe or a damaged file."""
    try:
        stored = np.load(io.BytesIO(read_regular(path)), allow_pickle=False)
    except DAMAGED:
        return None
    return list(stored) if isinstance(stored, np.ndarray) and stored.ndim else None
