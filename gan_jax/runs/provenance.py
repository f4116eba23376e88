"""What a run was made with: its data, its experiment's source, the package and the libraries."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import io
import os
import pathlib
import platform
import subprocess
import sys
import tokenize
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

import gan_jax
from gan_jax.data.source import Source
from gan_jax.data.timeout import within
from gan_jax.game import Game
from gan_jax.precision import configured
from gan_jax.training.experiment import Experiment

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
PACKAGE = pathlib.Path(gan_jax.__file__).resolve().parent


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide a run's numbers."""
    versions = {"python": platform.python_version(), "gan_jax": gan_jax.__version__}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def computed_by(precision: str = "default") -> dict[str, str]:
    """What decides a run's last digits beside the versions: platform, device, precision of products, and PRNG.

    Args:
      precision: that of the training; `default` is what JAX is configured with.

    >>> sorted(computed_by("highest").items())
    [('device', 'cpu'), ('matmul_precision', 'highest'), ('platform', 'cpu'), ('prng', 'threefry2x32')]
    """
    device = jax.devices()[0]
    default, prng = configured()
    config: Any = jax.config
    if prng.startswith("threefry") and not config.jax_threefry_partitionable:
        prng += ", not partitionable"  # other numbers, of half the hashes
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "matmul_precision": default if precision == "default" else precision,
        "prng": prng,
    }


def git_commit(file: epath.PathLike = PACKAGE / "__init__.py") -> str | None:
    """The commit of the working tree that tracks `file`, `-dirty` behind it if tracked files were changed.

    A file that merely lies inside a working tree, in a virtual environment there, is not of its commit.

    Args:
      file: this package's by default: the code that runs, wherever it is run.
    """
    folder, name = os.path.split(os.path.abspath(file))

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", folder, *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "--", name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def source_digest(path: epath.PathLike) -> str:
    """The sha256 of a Python file's code: comments, docstrings and blank lines do not count.

    Raises:
      OSError, SyntaxError, ValueError: if the file cannot be read or is no Python.
    """
    return hashlib.sha256(code_of(_source_text(path)).encode()).hexdigest()


def code_of(text: str) -> str:
    """Python without comments, docstrings and blank lines.

    Raises:
      SyntaxError, ValueError: if it is no Python.

    >>> code_of("# The answer.\\n\\nx = 42  # of course\\n")
    'x = 42'
    """
    lines = text.split("\n")  # Python's lines: `str.splitlines` breaks at form feeds too
    starts = np.cumsum([0, *(len(line) + 1 for line in lines)])
    cuts = []
    for node in ast.walk(ast.parse(text)):
        text_node = _docstring(node)
        if text_node is not None:
            assert text_node.end_lineno is not None
            assert text_node.end_col_offset is not None
            places = (
                (text_node.lineno, text_node.col_offset),
                (text_node.end_lineno, text_node.end_col_offset),
            )
            # `ast` counts columns in bytes of UTF-8.
            begin, end = (
                starts[line - 1] + len(lines[line - 1].encode()[:column].decode()) for line, column in places
            )
            cuts.append((begin, end))
    docstrings, in_strings = dict(cuts), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        begin = starts[token.start[0] - 1] + token.start[1]
        if token.type == tokenize.COMMENT:
            cuts.append((begin, begin + len(token.string)))
        elif token.type in _STRINGS and begin not in docstrings:
            in_strings |= {starts[row] - 1 for row in range(token.start[0], token.end[0])}
    significant, at, line = [], 0, ""
    for begin, end in [*sorted(cuts), (len(text), len(text))]:
        *whole, rest = text[at:begin].split("\n")
        for part in whole:
            at += len(part) + 1
            line += part
            if at - 1 in in_strings:  # the string's own line ends here, with its spaces
                significant.append(line)
            elif line.strip():
                significant.append(line.rstrip())
            line = ""
        line += rest
        at = max(at, end)
    if line.strip():
        significant.append(line.rstrip())
    return "\n".join(significant)


_STRINGS = tuple(getattr(tokenize, name) for name in ("STRING", "FSTRING_MIDDLE") if hasattr(tokenize, name))


def _source_text(path: epath.PathLike) -> str:
    """A Python file's text as Python decodes it: by its coding line or its byte order mark, UTF-8 by default."""
    with tokenize.open(pathlib.Path(path)) as file:
        return file.read()


def modules_beside(path: epath.PathLike) -> dict[str, str]:
    """The digests of the modules in an experiment's folder that it imports, directly or through others of them.

    Imports are read off the source, those within functions too. A module of the same name that was imported from
    elsewhere is not one of them, and neither is this package, which has a version.

    Returns:
      Paths relative to the folder -> `source_digest`.

    Raises:
      OSError, SyntaxError, ValueError: as `source_digest`.
    """
    first = pathlib.Path(path).resolve()
    folder, found, left = first.parent, dict[pathlib.Path, str](), [first]
    while left:
        file = left.pop()
        for name in _imported_names(file, folder):
            module = _beside(name, folder)
            if module is not None and module != first and module not in found:
                found[module] = source_digest(module)
                left.append(module)
    return {module.relative_to(folder).as_posix(): found[module] for module in sorted(found)}


def _imported_names(file: pathlib.Path, folder: pathlib.Path) -> set[str]:
    """The full names that a file imports, and those of the packages that they are in."""
    names = set()
    for node in ast.walk(ast.parse(_source_text(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ""
            if node.level:  # relative to the file's own package
                inside = file.relative_to(folder).parent.parts
                package = ".".join(inside[: len(inside) - node.level + 1])
            module = ".".join(filter(None, [package, node.module]))
            names |= {module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)}
    parts = [name.split(".") for name in names if name]
    return {".".join(name[:count]) for name in parts for count in range(1, len(name) + 1)}


def _beside(name: str, folder: pathlib.Path) -> pathlib.Path | None:
    """The file in `folder` that is imported by this name, `a.b`, or `folder.a.b` where the folder is a package."""
    parts = name.split(".")
    for root, inside in ((folder, parts), *([(folder, parts[1:])] if parts[0] == folder.name else [])):
        for file in (root.joinpath(*inside, "__init__.py"), root.joinpath(*inside).with_suffix(".py")):
            if file.is_file() and PACKAGE not in file.resolve().parents and _is_imported_from(name, file):
                return file.resolve() if folder in file.resolve().parents else None
    return None


def _is_imported_from(name: str, file: pathlib.Path) -> bool:
    """Whether a module is that of this file, as far as it has been imported."""
    imported = getattr(sys.modules.get(name), "__file__", None)
    return imported is None or pathlib.Path(imported).resolve() == file.resolve()


def _docstring(node: ast.AST) -> ast.expr | None:
    """The docstring of a module, class or function."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first.value if isinstance(first.value.value, str) else None
    return None


def data_fingerprint(source: Source) -> dict[str, Any]:
    """What identifies a source's data: every array on the device, and the source's own fingerprint.

    >>> from gan_jax.data.toy import from_toy, ring
    >>> list(data_fingerprint(from_toy(ring(), batch_size=4, seed=3)).values())[0].partition(" sha256:")[0]
    'uint32[]'
    """
    return {name: described(array) for name, array in _on_device(source).items()} | _of_source(source)


APART = ("held out: ", "of seed ")
"""Beginnings of the names of marks that older versions did not write: compared are those that both sides have."""


def examples_fingerprint(experiment: Experiment) -> dict[str, Any]:
    """What identifies an experiment's data: the arrays of its source, and what it held out.

    Of its extra seeds likewise, where theirs differ from the first one's: what one held out, others are trained on.

    Raises:
      DataTimeoutError: if the data do not answer in time.
    """
    first, *extra = (
        within(source, experiment.data_timeout) for source in (experiment.source, *experiment.extra_sources)
    )
    arrays = _on_device(first) | _held_out(experiment)
    found = {name: described(array) for name, array in arrays.items()} | _of_source(first)
    for place, source in enumerate(extra, 1):
        single = experiment.for_seed(place)
        own = {
            name: described(array)
            for name, array in (_on_device(source) | _held_out(single)).items()
            if name not in arrays or not np.array_equal(arrays[name], array)
        }
        own |= {name: mark for name, mark in _of_source(source).items() if found.get(name) != mark}
        found |= {f"{APART[1]}{single.seed}: {name}": mark for name, mark in own.items()}
    return found


def held_out_marks(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What identifies data held back from training, for the fingerprint of a source, by the arrays' names.

    >>> list(held_out_marks({"condition": np.zeros((3, 2), np.uint8)}))
    ['held out: condition']
    """
    return {f"{APART[0]}{name}": described(array) for name, array in arrays.items()}


def _held_out(experiment: Experiment) -> dict[str, np.ndarray]:
    return {} if experiment.held_out is None else {f"{APART[0]}x": np.asarray(experiment.held_out)}


def _on_device(source: Source) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "data": np.asarray(array)
        for path, array in jax.tree.leaves_with_path(source.device_data)
    }


def _of_source(source: Source) -> dict[str, str]:
    return dict(source.fingerprint()) if source.fingerprint is not None else {}


def features_fingerprint(game: Game) -> dict[str, str]:
    """What identifies the pretrained networks through which players see data, by the players' names."""
    return {
        f"pretrained features of {name}": ", ".join(f"sha256:{digest}" for digest in digests)
        for name, player in game.players.items()
        if (digests := player.network.frozen_features)
    }


def described(array: np.ndarray) -> str:
    """An array as `uint8[1797, 8, 8, 1] sha256:...`."""
    digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
    return f"{array.dtype}{list(array.shape)} sha256:{digest}"
