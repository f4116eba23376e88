"""The work directory: where the files of a run are.

    config.json      the resolved configuration, library versions, the commit
    checkpoints/     a directory for each saved round
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
    """Checks that no part of a work directory is a link that leads out of it, so that nothing is written elsewhere.

    The directory itself may be a link, and its parts may be links to one another.

    Raises:
      WorkdirError: naming the link.
    """
    if not is_local(workdir.root):
        return
    root = os.path.realpath(workdir.root)
    parts = (
        workdir.config,
        workdir.metrics,
        workdir.checkpoints,
        workdir.events,
        workdir.samples,
        workdir.profile,
    )
    for part in parts:
        there = os.path.realpath(part)
        if os.path.islink(part) and os.path.commonpath([root, there]) != root:
            raise WorkdirError(
                f"{part} is a link that leads out of the work directory, to {there}: remove it, or make the work "
                "directory itself the link."
            )
