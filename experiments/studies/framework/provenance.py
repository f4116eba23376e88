"""Where a study's numbers come from: the code that computed them, the commit, the date and the machine.

The code of a study is its own file and every file of this repository that it imports, directly or through others.
A name that a package hands on (`from gan_jax.objectives import r1`) leads to the file that defines it, and not to
all that the package imports. Comments, docstrings and blank lines are not code, so that a better explanation does
not make a result old.
"""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gan_jax.runs.provenance import computed_by, git_commit, library_versions, source_digest

ROOT = pathlib.Path(__file__).resolve().parents[3]
ROOMS = ("gan_jax", "experiments")
DRAWING = "gan_jax/pictures/"
"""What draws computes no result: figures are drawn again from the stored numbers."""
DIGITS = 12
"""Hexadecimal digits that are kept of a digest."""


class State(NamedTuple):
    """How a study's stored numbers stand to the code as it is now.

    Attributes:
      name: the study.
      current: the cases whose code is that of now.
      old: the cases that other code computed.
      unknown: the cases of which nothing is recorded.
    """

    name: str
    current: int
    old: int
    unknown: int

    def __str__(self) -> str:
        cases = self.current + self.old + self.unknown
        if not cases:
            return f"{self.name}: nothing is stored"
        if self.unknown:
            return f"{self.name}: of {self.unknown} of {cases} results it is not recorded what computed them"
        if self.old:
            return f"{self.name}: {self.old} of {cases} results are older than the code"
        return f"{self.name}: all {cases} results are the code's"


def state(module: str, stored: Mapping[str, Any], root: pathlib.Path = ROOT) -> State:
    """How the stored numbers of a study's module stand to the code below `root`."""
    now = digest(module, root)
    launches = stored.get("launches", {})
    cases = [case for by_case in stored["runs"].values() for case in by_case.values()]
    known = [launches[case["launch"]]["code"] for case in cases if case.get("launch") in launches]
    name = module.rpartition(".")[2]
    return State(name, known.count(now), len(known) - known.count(now), len(cases) - len(known))


def launch(module: str, command: str) -> dict[str, Any]:
    """What is recorded of a launch: code, commit, date, machine, computation, versions and command.

    Args:
      module: the study's module.
      command: what was called.
    """
    return {
        "code": digest(module),
        "commit": git_commit() or "unknown",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "computation": computed_by("highest"),
        "versions": library_versions(),
        "command": command,
    }


def identifier(record: Mapping[str, Any]) -> str:
    """The name by which results refer to a launch: launches that do not differ have the same."""
    return hashlib.sha256(repr(sorted(record.items())).encode()).hexdigest()[:8]


def digest(module: str, root: pathlib.Path = ROOT) -> str:
    """The first digits of the SHA-256 of the code that a module imports, its own included, without what draws."""
    total = hashlib.sha256()
    for file in sorted(imported_files(module, root)):
        if not file.as_posix().startswith(DRAWING):
            changed = (root / file).stat().st_mtime_ns
            total.update(f"{file.as_posix()}\n{_code(root / file, changed)}\n".encode())
    return total.hexdigest()[:DIGITS]


@functools.cache
def _code(path: pathlib.Path, _: int) -> str:
    return source_digest(path)


def imported_files(module: str, root: pathlib.Path = ROOT) -> set[pathlib.Path]:
    """The files below `root` that a module imports, directly or through others, and its own; relative to `root`."""
    found: set[pathlib.Path] = set()
    waiting = [file for file in [_file(module, root)] if file is not None]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            for imported, name in _imports(root / file, root):
                waiting += _resolved(imported, name, root)
    return found


def _resolved(module: str, name: str | None, root: pathlib.Path) -> list[pathlib.Path]:
    """The files that `from module import name` reads, or `import module` where there is no name."""
    if module.partition(".")[0] not in ROOMS:
        return []
    inner = _file(f"{module}.{name}", root) if name else None
    if inner is not None:
        return [inner]
    file = _file(module, root)
    if file is None or file.name != "__init__.py" or name is None:
        return [] if file is None else [file]
    handed_on = [
        (source, original)
        for source, original, bound in _bindings(root / file, root)
        if bound == name and (source, original) != (module, name)
    ]
    return [found for source, original in handed_on for found in _resolved(source, original, root)] or [file]


def _imports(path: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[str, str | None]]:
    """The `(module, name)` that a file imports; of a package that it names whole, what it takes from it."""
    tree = _tree(path, path.stat().st_mtime_ns)
    aliases = {}
    for source, original, bound in _bindings(path, root):
        whole = f"{source}.{original}" if original else source
        package = _file(whole, root)
        if package is not None and package.name == "__init__.py":
            aliases[bound] = whole
        else:
            yield source, original
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr


def _bindings(path: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[str, str | None, str]]:
    """A file's imports as `(module, name in it or none, name here)`; those for type checking alone are left out."""
    package = path.relative_to(root).parent.as_posix().replace("/", ".")
    for node in _executed(_tree(path, path.stat().st_mtime_ns)):
        if isinstance(node, ast.Import):
            for item in node.names:
                yield item.name, None, item.asname or item.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for item in node.names:
                yield source, item.name, item.asname or item.name


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


@functools.cache
def _tree(path: pathlib.Path, _: int) -> ast.Module:
    return ast.parse(path.read_text())


def _file(module: str, root: pathlib.Path) -> pathlib.Path | None:
    """A module's file, relative to `root`; `None` where it is none of this repository."""
    if module.partition(".")[0] not in ROOMS:
        return None
    place = pathlib.Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if (root / file).is_file():
            return file
    return None


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
