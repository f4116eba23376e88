"""`gan-jax new FILE`: an experiment of one's own, to be changed."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence

from gan_jax.cli import finding, program
from gan_jax.cli.errors import UsageError
from gan_jax.files import reason, write_atomically
from gan_jax.runs.terminal import tell

TEMPLATE = "template"


def new(arguments: Sequence[str]) -> None:
    """Writes the shipped experiment `template` to a new file, and prints the command that trains it.

    Raises:
      UsageError: if not exactly one Python file is named, if it is there already, or cannot be written.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UsageError(f"name the file to write: {shlex.join([*program.command(), 'new', 'my.py'])}.")
    path = pathlib.Path(arguments[0])
    if path.suffix != ".py":
        raise UsageError(f"an experiment is a Python file: {shlex.quote(str(path))} does not end in .py.")
    try:
        path.open("x").close()
        try:
            write_atomically(path, (finding.EXPERIMENTS / f"{TEMPLATE}.py").read_bytes())
        except BaseException:
            path.unlink()
            raise
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and nothing is overwritten: choose another name."
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason(error)}.") from error
    command = shlex.join([*program.command(), f"--config={path}"])
    tell(f"Written {path}, a GAN of images with networks of its own. Train it, then change it: {command}")
