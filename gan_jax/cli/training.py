"""`--mode=train`: trains, or goes on training."""

from __future__ import annotations

import pathlib

from gan_jax.cli.building import build_seeds
from gan_jax.cli.errors import UsageError
from gan_jax.cli.request import Request, resolve
from gan_jax.runs.workdir import Workdir


def train(request: Request) -> None:
    """Trains, or goes on training."""
    from gan_jax.runs import loop

    if request.profile is not None and request.profile < 0:
        raise UsageError(f"--profile is the first round to trace, 0 or more, got {request.profile}.")
    config = resolve(request)
    experiment = build_seeds(request, config)
    workdir = Workdir(request.workdir or new_workdir(pathlib.Path(request.experiment).stem))
    loop.train(
        experiment,
        workdir,
        config=config,
        name=_portable(request.experiment),
        override=request.override,
        profile=request.profile,
    )


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
