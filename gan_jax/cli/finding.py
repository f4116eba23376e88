"""Finding the experiment that a command or a work directory names.

The experiments of the installation are known by their names, from any folder. Any other file is code of somebody's,
and runs only where `--config` names it: a work directory may have come from anywhere.
"""

from __future__ import annotations

import pathlib
import re

import gan_jax
from gan_jax.cli.errors import UsageError

EXPERIMENTS = pathlib.Path(gan_jax.__file__).resolve().parent.parent / "experiments"
DEFAULT = "digits"


def installed(name: str) -> pathlib.Path | None:
    """The installation's experiment of this name, written `ring` or `experiments/ring.py`; `None` if it has none.

    >>> installed("experiments/ring.py") == installed("ring") == EXPERIMENTS / "ring.py"
    True
    >>> installed("runs/evil.py"), installed("experiments/../evil.py")
    (None, None)
    """
    match = re.fullmatch(r"(?:experiments/)?(?!__)(\w+?)(?:\.py)?", name)
    path = EXPERIMENTS / f"{match[1]}.py" if match else None
    return path if path is not None and path.is_file() else None


def name_of(path: pathlib.Path) -> str:
    """What `config.json` calls an experiment: `experiments/ring.py` for an installed one, else its full path."""
    path = path.resolve()
    return f"experiments/{path.name}" if path.parent == EXPERIMENTS else str(path)


def is_installed(path: pathlib.Path) -> bool:
    """Whether an experiment is one of the installation."""
    return path.resolve().parent == EXPERIMENTS


def named(given: str) -> pathlib.Path:
    """The file that `--config` names: a path from here, or one of the installation's experiments.

    Raises:
      UsageError: if it may be either of two files.
    """
    here, ours = pathlib.Path(given), installed(given)
    if ours is None or (here.is_file() and here.resolve() == ours):
        return here
    if here.is_file():
        raise UsageError(
            f"--config={given} is a file of this folder and an experiment of {EXPERIMENTS.parent}: give "
            f"--config=./{given} or --config={ours}."
        )
    return ours


def recorded(name: str, workdir: str) -> pathlib.Path:
    """The experiment that a work directory's `config.json` names.

    Raises:
      UsageError: if it is none of the installation's: then `--config` has to name it.
    """
    ours = installed(name)
    if ours is None and name:
        path = pathlib.Path(name)
        ours = path if path.is_absolute() and is_installed(path) and path.is_file() else None
    if ours is None:
        raise UsageError(
            f"{workdir} is a run of {name or 'an unnamed experiment'}, which is none of the experiments of "
            f"{EXPERIMENTS.parent}; no work directory runs code by itself. If you trust that file, give it: "
            f"--config={name or 'FILE'}."
        )
    return ours
