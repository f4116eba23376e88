"""The work directory: where the files of a run are.

    config.json      the resolved configuration, library versions, the commit
    checkpoints/     a directory for each saved round
    model/           the networks as programs without Python, see `gan_jax.models.portable`
    metrics.jsonl    a JSON object for each line
    tensorboard/     event files
    samples/         pictures
    profile/         profiler traces
    .lock            held by the process that trains here

Paths go through `etils.epath`, so `gs://` works as well as a local path; only the lock needs a local file system.
"""

from __future__ import annotations

import dataclasses
import os

from etils import epath

from gan_jax.runs.files import is_local


class WorkdirError(RuntimeError):
    """A work directory that cannot be used as asked; the message is one line for the user."""


class WorkdirMovedError(WorkdirError):
    """A work directory that was moved or removed while a run trained in it.

    Attributes:
      place: where it is now; `None` if it is gone, or where the system does not tell.
    """

    def __init__(self, message: str, place: str | None):
        super().__init__(message)
        self.place = place


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Where the files of a run are.

    >>> str(Workdir("runs/ring").metrics)
    'runs/ring/metrics.jsonl'
    """

    path: epath.PathLike

    @property
    def root(self) -> epath.Path:
        """The directory itself."""
        return epath.Path(self.path)

    @property
    def config(self) -> epath.Path:
        """`config.json`."""
        return self.root / "config.json"

    @property
    def checkpoints(self) -> epath.Path:
        """The directory of checkpoints."""
        return self.root / "checkpoints"

    @property
    def model(self) -> epath.Path:
        """The directory of the networks' programs."""
        return self.root / "model"

    @property
    def metrics(self) -> epath.Path:
        """`metrics.jsonl`."""
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> epath.Path:
        """The directory of TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def samples(self) -> epath.Path:
        """The directory of pictures."""
        return self.root / "samples"

    @property
    def profile(self) -> epath.Path:
        """The directory of profiler traces."""
        return self.root / "profile"


def refuse_links(workdir: Workdir) -> None:
    """Checks that nothing is written, read or deleted through a link in a work directory.

    The directory itself may be a link; its parts, and what lies in its checkpoints, its model and its traces,
    may not. Links among its pictures and event files are harmless: they are not followed.

    Raises:
      WorkdirError: naming the link.
    """
    if not is_local(workdir.root):
        return
    parts = (
        workdir.config,
        workdir.metrics,
        workdir.checkpoints,
        workdir.model,
        workdir.events,
        workdir.samples,
        workdir.profile,
    )
    inside = (
        os.path.join(folder, name)
        for entered in (workdir.checkpoints, workdir.model, workdir.profile)
        for folder, folders, files in os.walk(entered)
        for name in (*folders, *files)
    )
    for path in (*parts, *inside):
        if os.path.islink(path):
            raise WorkdirError(
                f"{path} is a link, to {os.readlink(path)}: nothing is followed out of a work directory. Put there "
                "what it leads to, remove it, or make the work directory itself the link."
            )
