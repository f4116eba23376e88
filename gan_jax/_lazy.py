"""Names of a package that are imported when they are first used, so that importing the package stays quick."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Module:
    """A module that is imported when something of it is first used.

    >>> round(float(Module("scipy.special").ndtr(0.0)), 3)
    0.5
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found


def imported_when_used(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
      package: the package's name.
      modules: for each module the names that the package takes from it. The package imports the same names for type
        checkers, under `if TYPE_CHECKING`.

    Returns:
      A function of a name, which imports the name's module and keeps what it finds in the package. It raises an
      `AttributeError` for a name that is in no module.

    >>> found = imported_when_used("gan_jax.networks", {"gan_jax.networks.unet": ["UNet"]})("UNet")
    >>> found.__name__
    'UNet'
    """
    place = {name: module for module, names in modules.items() for name in names}

    def getattribute(name: str) -> object:
        if name not in place:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(place[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return getattribute
