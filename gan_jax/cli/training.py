"""`--mode=train`: trains, or goes on training."""

from __future__ import annotations

import pathlib
import shlex

from gan_jax.cli import finding, program
from gan_jax.cli.building import build_seeds, completed
from gan_jax.cli.errors import UsageError
from gan_jax.cli.request import Request, resolve
from gan_jax.runs.provenance import modules_beside, source_digest
from gan_jax.runs.trackers import TRACKERS, TrackerError, require
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import choose


def train(request: Request) -> None:
    """Trains, or goes on training."""
    from gan_jax.runs import loop

    if request.profile is not None and request.profile < 0:
        raise UsageError(f"--profile is the first round to trace, 0 or more, got {request.profile}.")
    track = tuple(filter(None, (request.track or "").split(",")))
    for name in track:
        choose("tracker", name, TRACKERS)
        try:
            require(name, request.workdir or "")
        except TrackerError as error:
            raise UsageError(str(error)) from error
    config = completed(request, resolve(request))
    experiment = build_seeds(request, config)
    path = pathlib.Path(request.experiment)
    workdir = Workdir(request.workdir or new_workdir(path.stem))
    command = program.command()
    if not finding.is_installed(path):  # a work directory does not bring code
        command.append(f"--config={finding.name_of(path)}")
    loop.train(
        experiment,
        workdir,
        config=config,
        name=finding.name_of(path),
        code=source_digest(path),
        modules=modules_beside(path),
        override=request.override,
        profile=request.profile,
        command=shlex.join(command),
        track=track,
    )


def new_workdir(name: str) -> str:
    """`runs/name-1`, or the first number that is not taken."""
    number = 1
    while (pathlib.Path("runs") / f"{name}-{number}").exists():
        number += 1
    return f"runs/{name}-{number}"
