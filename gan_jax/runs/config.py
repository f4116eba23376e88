"""`config.json`: what a run was asked for, with which libraries, and how a relaunch is held to it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from gan_jax.runs.files import is_there, read_regular, reason, write_atomically
from gan_jax.runs.strict_json import dumps, to_json
from gan_jax.runs.workdir import Workdir, WorkdirError

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gan_jax")
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class SavedConfig:
    """What `config.json` says of the run that wrote it.

    Attributes:
      config: the resolved configuration as JSON values.
      experiment: the experiment's name or file.
      versions: library name -> version.
      commit: the source's git commit, with `-dirty` behind it if files were changed; `None` outside git.
    """

    config: dict[str, Any]
    experiment: str
    versions: dict[str, str]
    commit: str | None


def jsonable(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, see `strict_json.to_json`.

    Raises:
      WorkdirError: naming the field, where a value has no JSON form.
    """
    try:
        return to_json(config, "config")
    except TypeError as error:
        raise WorkdirError(
            f"{str(error).removesuffix('.')}: a configuration is made of numbers, strings, booleans, None, "
            "lists and dicts."
        ) from error


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide a run's numbers."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def git_commit(source: epath.PathLike = ".") -> str | None:
    """The commit of the working tree that holds `source`, `-dirty` behind it if tracked files were changed."""
    command = [
        "git",
        "-C",
        os.fspath(source),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def write_config(
    workdir: Workdir, config: Any, *, experiment: str = "", source: epath.PathLike = "."
) -> SavedConfig:
    """Writes `config.json`, making the directory if it is not there.

    Args:
      workdir: the work directory.
      config: the resolved configuration, a mapping or a `ConfigDict`.
      experiment: the experiment's name or file.
      source: a path inside the source tree whose commit is recorded.

    Raises:
      WorkdirError: where a value has no JSON form, or the directory cannot be written.
    """
    saved = SavedConfig(jsonable(config), experiment, library_versions(), git_commit(source))
    text = dumps(dataclasses.asdict(saved), indent=2) + "\n"
    try:
        workdir.root.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir.config, text.encode())
    except OSError as error:
        raise WorkdirError(f"Cannot write {workdir.config}: {reason(error)}.") from error
    return saved


def read_config(workdir: Workdir) -> SavedConfig:
    """Reads `config.json`.

    Raises:
      WorkdirError: if the directory is not there, holds no run, or the file is not a configuration.
    """
    if not workdir.root.exists():
        raise WorkdirError(
            f"Work directory {workdir.root} does not exist: train there first, or mend the path."
        )
    try:
        content = json.loads(read_regular(workdir.config))
        saved = SavedConfig(**content)
        well_formed = isinstance(saved.config, dict) and isinstance(saved.versions, dict)
    except FileNotFoundError:
        raise WorkdirError(
            f"{workdir.root} holds no run (there is no config.json): train there first, or mend the path."
        ) from None
    except OSError as error:
        raise WorkdirError(f"Cannot read {workdir.config}: {reason(error)}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise WorkdirError(f"{workdir.config} is damaged ({reason(error)}).") from error
    if not well_formed:
        raise WorkdirError(f"{workdir.config} is damaged (it holds no configuration).")
    return saved


def differences(saved: Any, new: Any, *, may_change: Iterable[str] = ()) -> list[str]:
    """How a new configuration differs from a saved one, a line for each field, sorted by name.

    `rounds`, every field whose name ends in `_every`, and those in `may_change` are left out: a run may be made
    longer, and logged or saved more or less often, without being another run.

    >>> differences({"lr": 1e-3, "rounds": 10}, {"lr": 1e-4, "rounds": 20})
    ['lr: 0.001 in the work directory, 0.0001 now']
    """
    free = {"rounds", *may_change}
    before, after = _flat(jsonable(saved)), _flat(jsonable(new))
    lines = []
    for name in sorted({*before, *after}):
        if name in free or name.rsplit(".", 1)[-1].endswith("_every"):
            continue
        old, now = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if old != now or isinstance(old, bool) != isinstance(now, bool):
            lines.append(f"{name}: {_shown(old)} in the work directory, {_shown(now)} now")
    return lines


def check_config(
    workdir: Workdir, config: Any, *, may_change: Iterable[str] = (), override: bool = False
) -> list[str]:
    """Checks that a relaunch has the configuration that its work directory was made with.

    Returns:
      The differences that `override` let pass; the empty list where there are none, or no `config.json` yet.

    Raises:
      WorkdirError: listing the differences, unless `override`.
    """
    if not workdir.config.exists():
        return []
    changed = differences(read_config(workdir).config, config, may_change=may_change)
    if changed and not override:
        raise WorkdirError(
            f"{workdir.root} was made with another configuration ({'; '.join(changed)}): restore it, choose "
            "another --workdir, or pass --override to go on with the new one."
        )
    return changed


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
