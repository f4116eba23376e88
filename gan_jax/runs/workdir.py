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
import secrets

from etils import epath

from gan_jax.runs.files import is_link, is_local, is_there, reason


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
    def exported(self) -> epath.Path:
        """`model.json`, which is in an export and in no run."""
        return self.root / "model.json"

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


def has_checkpoints(workdir: Workdir) -> bool:
    """Whether a state is saved there, be it damaged.

    >>> has_checkpoints(Workdir("runs/that/do/not/exist"))
    False
    """
    steps = workdir.checkpoints.iterdir() if workdir.checkpoints.is_dir() else ()
    return any(is_there(path / "manifest.json") for path in steps)


def refuse_files_of_others(workdir: Workdir) -> None:
    """Checks that a run begins where no files are that it would replace, or that it would be taken for.

    Raises:
      WorkdirError: if the directory holds an export, by which everybody would read it; or has no `config.json`, and
        files of the names that a run writes.
    """
    if is_there(workdir.exported):
        raise WorkdirError(
            f"{workdir.root} has a {workdir.exported.name}, as an export: samples would be of that and not of the "
            "run. Move it, or choose another --workdir."
        )
    if is_there(workdir.config) or has_checkpoints(workdir):
        return
    there = []
    if is_there(workdir.metrics) and (is_link(workdir.metrics) or workdir.metrics.stat().length):
        there.append(workdir.metrics.name)
    if is_there(workdir.model / workdir.exported.name):
        there.append(f"{workdir.model.name}/{workdir.exported.name}")
    if is_there(workdir.samples) and workdir.samples.is_dir():
        names = (path.name for path in workdir.samples.iterdir())
        there += sorted(f"{workdir.samples.name}/{name}" for name in names if name.startswith("samples_"))[:1]
    if there:
        raise WorkdirError(
            f"{workdir.root} has {', '.join(there)}, of no run (there is no config.json), and a run would replace "
            "them: move them, or choose another --workdir."
        )


def keep_metrics(workdir: Workdir) -> str:
    """Renames the log of a run whose checkpoints are gone, since training begins again; its new name, or nothing.

    Raises:
      WorkdirError: if it cannot be renamed.
    """
    try:
        if not is_there(workdir.metrics) or not workdir.metrics.stat().length:
            return ""
        aside = workdir.metrics.with_name(f"metrics_before_{secrets.token_hex(4)}.jsonl")
        workdir.metrics.rename(aside)
    except OSError as error:
        raise WorkdirError(f"Cannot rename {workdir.metrics}: {reason(error)}.") from error
    return aside.name
