"""Finding the experiment that a command or a work directory names, and loading it.

The experiments of the installation are known by their names, from any folder. Any other file is code of somebody's,
and runs only where `--config` names it: a work directory may have come from anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import re
import sys
from types import ModuleType

import gan_jax
from gan_jax.cli.errors import UsageError
from gan_jax.training.experiment import ExperimentError, check_experiment, closest, load_module

WHEEL_PACKAGE = "gan_jax_experiments"
"""What the wheel calls the folder `experiments` of a checkout."""


def _shipped(beside: pathlib.Path) -> pathlib.Path:
    """The experiments that were installed with the package: those of its wheel, or of its checkout.

    Where the package lies among others, a folder `experiments` beside it is somebody else's.
    """
    packaged = beside / WHEEL_PACKAGE
    return packaged if packaged.is_dir() else beside / "experiments"


EXPERIMENTS = _shipped(pathlib.Path(gan_jax.__file__).resolve().parent.parent)
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


def shipped() -> list[str]:
    """The names of the installation's experiments.

    >>> "ring" in shipped(), "games" in shipped()
    (True, False)
    """
    return sorted(p.stem for p in EXPERIMENTS.glob("*.py") if "\ndef get_config(" in p.read_text("utf-8"))


def load(path: pathlib.Path) -> ModuleType:
    """The module of an experiment, with `get_config` and `build`.

    Those of the installation are modules of its package, found by its place and never by a search for its name.

    Raises:
      ExperimentError: if there is no such file, or it is no experiment.
    """
    if not path.is_file():
        names = shipped()
        raise ExperimentError(
            f"No experiment at {path}{closest(path.stem, names)}; those of the installation are "
            f"{', '.join(names)}."
        )
    if not is_installed(path):
        return load_module(path)
    _bind_package()
    module = importlib.import_module(f"{EXPERIMENTS.name}.{path.stem}")
    check_experiment(module, path)
    return module


def _bind_package() -> None:
    """Makes the installation's experiments the package of their name in this process."""
    name = EXPERIMENTS.name
    if name in sys.modules:
        if str(EXPERIMENTS) not in [
            str(pathlib.Path(place).resolve()) for place in sys.modules[name].__path__
        ]:
            raise ExperimentError(f"Another package {name!r} was imported before that of {EXPERIMENTS}.")
        return
    spec = importlib.util.spec_from_file_location(
        name, EXPERIMENTS / "__init__.py", submodule_search_locations=[str(EXPERIMENTS)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


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
            f"--config={given} is a file of this folder and one of the experiments of {EXPERIMENTS.parent}: give "
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
