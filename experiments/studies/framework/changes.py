"""A study with other numbers: its file, run again with some of its constants changed."""

from __future__ import annotations

import ast
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence


class ChangeError(ValueError):
    """A change that a study does not take."""


def parse(given: Sequence[str]) -> dict[str, float]:
    """The changes of `--set`, `modes=25` each.

    Raises:
      ChangeError: if one is no `NAME=NUMBER`, or a name is given twice.

    >>> parse(["rounds=200", "rate=1e-3"])
    {'ROUNDS': 200, 'RATE': 0.001}
    """
    changes: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            number = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            number = None
        if not name.isidentifier() or isinstance(number, bool) or not isinstance(number, int | float):
            raise ChangeError(f"--set takes NAME=NUMBER, as in --set rounds=200; got {text!r}.")
        if name.upper() in changes:
            raise ChangeError(f"--set gives {name!r} twice.")
        changes[name.upper()] = number
    return changes


def numbers(path: pathlib.Path) -> dict[str, float]:
    """The numbers that a study's file gives names to at its top, which `--set` can change."""
    return {name: node.value for name, node in _constants(ast.parse(path.read_text()))}  # type: ignore[misc]


def load(path: pathlib.Path, module: str, changes: Mapping[str, float]) -> types.ModuleType:
    """The module of a study's file with some of its numbers changed, and all that is computed from them.

    Raises:
      ChangeError: if the file has no such number, or a whole number is asked for and none is given.
    """
    tree = ast.parse(path.read_text())
    known = dict(_constants(tree))
    values = numbers(path)
    for name, value in changes.items():
        if name not in known:
            named = ", ".join(f"{k.lower()}={v}" for k, v in values.items()) or "none"
            raise ChangeError(f"{path.stem} has no number {name.lower()!r} of its own: it has {named}.")
        if isinstance(values[name], int) and not isinstance(value, int):
            raise ChangeError(f"{name.lower()} of {path.stem} is a whole number, got {value}.")
        known[name].value = value
    changed = types.ModuleType(module)
    changed.__file__ = str(path)
    exec(compile(tree, str(path), "exec"), changed.__dict__)
    return changed


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    """The constants in capitals of a file's top level whose values are numbers."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs = (
                zip(target.elts, value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                else [(target, value)]
            )
            for name, constant in pairs:
                if (
                    isinstance(name, ast.Name)
                    and name.id.isupper()
                    and isinstance(constant, ast.Constant)
                    and isinstance(constant.value, int | float)
                    and not isinstance(constant.value, bool)
                ):
                    yield name.id, constant
