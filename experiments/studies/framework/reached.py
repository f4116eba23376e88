"""Which definitions of this repository a module's code reaches, through the names that it uses.

A definition is a statement of a module that binds a name: a function, a class, an assignment. It reaches the
definitions whose names stand in it, in its own module or imported; a name that a package hands on
(`from gan_jax.objectives import r1`) leads to where it is defined, and so does one that the package imports when it
is first used, and lists for type checkers. Annotations reach nothing. Statements that bind nothing, such as
`function.defvjp(...)`, belong to every definition of their module.

What cannot be seen in the text, such as a module that is imported by a computed name, is not found.

What only refuses, `if ...: raise ...`, reaches nothing and is no part of the code: it has not raised where there is
a result, and can change none. A function that only reads data which come with a package is known by what it returns
instead (`READING`): how they are read changes no result. Studies have no other data, so that what reads image files
(`LEFT_OUT`) computes none of their numbers.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROOMS = ("gan_jax", "experiments")
WHOLE = "*"
"""In the place of a name: every definition of the module."""
LEFT_OUT = (
    "gan_jax/pictures/",
    "gan_jax/data/images.py",
    "gan_jax/data/pairs.py",
    "gan_jax/data/tfds_images.py",
)
"""What computes no result: what draws (figures are drawn again from the stored numbers) or reads image files."""
READING = {(pathlib.Path("gan_jax/data/arrays.py"), "load_digits")}
"""Functions that return arrays by name, whose bytes stand for their code."""
STUDY = "STUDY"
NOT_COMPUTING = ("module", "doc", "place", "claims", "figure", "film")
"""Fields of a study that compute no number that is stored: its text, its figures, and what is claimed."""


class Definition(NamedTuple):
    """A statement of a file, or a field of a study.

    Attributes:
      file: relative to the root.
      line: its first, from 1 on.
      text: Python that can be parsed by itself.
    """

    file: pathlib.Path
    line: int
    text: str


class Source(NamedTuple):
    """What stands in a file, by name.

    Attributes:
      text: the whole of it.
      definitions: the statements that bind a name.
      effects: those that bind none.
      imports: `(module, name there or none)` by the name here; of a package those for type checkers too.
    """

    text: str
    definitions: dict[str, list[ast.stmt]]
    effects: list[ast.stmt]
    imports: dict[str, list[tuple[str, str | None]]]


def reached(module: str, root: pathlib.Path) -> set[Definition]:
    """The definitions that a module's code reaches; of a study, that of its cases.

    Args:
      module: with its full name.
      root: the repository.
    """
    return _Walk(root).from_module(module)


class _Walk:
    """A walk from definition to definition.

    Args:
      root: the repository.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._seen: set[tuple[pathlib.Path, str]] = set()
        self._found: set[Definition] = set()

    def from_module(self, module: str) -> set[Definition]:
        file = self.file_of(module)
        if file is None:
            return set()
        study = self.source(file).definitions.get(STUDY)
        if study is None:
            self.reach(file, WHOLE)
            return self._found
        self._seen.add((file, STUDY))
        self._effects(file)
        for node in ast.walk(study[0]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Study":
                for keyword in node.keywords:
                    if keyword.arg not in NOT_COMPUTING:
                        text = ast.get_source_segment(self.source(file).text, keyword.value)
                        self._found.add(Definition(file, keyword.value.lineno, f"({text})"))
                        self._follow(file, keyword.value)
        return self._found

    def reach(self, file: pathlib.Path, name: str) -> None:
        """Adds a definition of a file, or what a package hands on under its name; all where there is neither."""
        if (file, name) in self._seen:
            return
        self._seen.add((file, name))
        source = self.source(file)
        if (file, name) in READING:
            self._effects(file)
            self._found.add(_returned(file, name))
        elif name in source.definitions:
            self._effects(file)
            self._add(file, source.definitions[name])
        elif name in source.imports:
            for module, original in source.imports[name]:
                self._reach_imported(module, *([original] if original else []))
        else:
            self._effects(file)
            for statements in source.definitions.values():
                self._add(file, statements)
            if file.name == "__init__.py":
                for handed_on in source.imports:
                    self.reach(file, handed_on)

    def _effects(self, file: pathlib.Path) -> None:
        if (file, "") not in self._seen:
            self._seen.add((file, ""))
            self._add(file, self.source(file).effects)

    def _add(self, file: pathlib.Path, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            first = _first(statement)
            lines = self.source(file).text.split("\n")[first - 1 : statement.end_lineno]
            found = Definition(file, first, "\n".join(lines))
            if found not in self._found:
                self._found.add(found)
                self._follow(file, statement)

    def _follow(self, file: pathlib.Path, node: ast.AST) -> None:
        """Reaches what is named in code of a file."""
        source = self.source(file)
        for name, *attributes in _names(node):
            if name in source.definitions:
                self.reach(file, name)
            for module, original in source.imports.get(name, ()):
                self._reach_imported(module, *([original] if original else []), *attributes)

    def _reach_imported(self, module: str, *names: str) -> None:
        """Reaches a name of a module, or of a module in it: the first of `names` that is no module."""
        while names and self.file_of(f"{module}.{names[0]}") is not None:
            module, names = f"{module}.{names[0]}", names[1:]
        file = self.file_of(module)
        if file is not None and not file.as_posix().startswith(LEFT_OUT):
            self.reach(file, names[0] if names else WHOLE)

    def file_of(self, module: str) -> pathlib.Path | None:
        """A module's file, relative to the root; `None` where it is none of this repository."""
        return _file(module, self._root)

    def source(self, file: pathlib.Path) -> Source:
        path = self._root / file
        return _source(path, self._root, path.stat().st_mtime_ns)


@functools.cache
def _returned(file: pathlib.Path, name: str) -> Definition:
    """What stands for a function of `READING`: the digest of the arrays that it returns."""
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    total = hashlib.sha256()
    for entry, array in sorted(getattr(module, name)().items()):
        total.update(f"{entry} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return Definition(file, 0, f"{name} = {total.hexdigest()!r}")


def refusals(code: ast.AST) -> list[ast.If]:
    """The statements `if ...: raise ...` in code, without an else, of blocks with other statements.

    None below a `try`, which may go on from them.
    """
    found = []
    tried = {node for each in ast.walk(code) if isinstance(each, ast.Try) for node in ast.walk(each)}
    for node in ast.walk(code):
        for _, block in ast.iter_fields(node) if node not in tried else ():
            if isinstance(block, list) and not all(map(_refuses, block)):
                found += [statement for statement in block if _refuses(statement)]
    return found


def _refuses(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.If)
        and [type(inside) for inside in statement.body] == [ast.Raise]
        and not statement.orelse
    )


def _names(code: ast.AST) -> Iterator[list[str]]:
    """The names in code, each with the attributes that are taken of it, `a.b.c`; annotations are left out."""
    waiting, left_out = [code], set(refusals(code))
    while waiting:
        node = waiting.pop()
        if node in left_out:
            continue
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield [node.id, *attributes]
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST):
                    waiting.append(item)


@functools.cache
def _source(path: pathlib.Path, root: pathlib.Path, _: int) -> Source:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    source = Source(text, {}, [], {})
    for statement in tree.body:
        names = _bound(statement)
        for name in names:
            source.definitions.setdefault(name, []).append(statement)
        if not names and not _has_no_effect(statement):
            source.effects.append(statement)
    is_package = path.name == "__init__.py"
    package = path.relative_to(root).parent.as_posix().replace("/", ".")
    for node in ast.walk(tree) if is_package else _executed(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                bound = item.asname or item.name.partition(".")[0]
                source.imports.setdefault(bound, []).append((item.name if item.asname else bound, None))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for item in node.names:
                source.imports.setdefault(item.asname or item.name, []).append((module, item.name))
    return source


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module binds, but for imports."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if _has_no_effect(statement):
        return []
    if isinstance(statement, ast.Expr):
        return []
    # A comprehension's variables are its own; but for a walrus, they are all that is stored in one.
    own = {
        name
        for part in ast.walk(statement)
        if isinstance(part, ast.comprehension)
        for name in ast.walk(part.target)
    }
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and node not in own]
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _has_no_effect(statement: ast.stmt) -> bool:
    """Whether a statement is an import, a text, or for type checkers or a program alone."""
    if isinstance(statement, ast.If):
        test = ast.unparse(statement.test)
        return "TYPE_CHECKING" in test or "__main__" in test
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Import | ast.ImportFrom)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


def _first(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _file(module: str, root: pathlib.Path) -> pathlib.Path | None:
    if module.partition(".")[0] not in ROOMS:
        return None
    place = pathlib.Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if (root / file).is_file():
            return file
    return None
