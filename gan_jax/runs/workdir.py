"""The work directory: what a run was asked for, who holds it, and the log of what came out.

    config.json      the resolved configuration, library versions, the commit
    checkpoints/     one directory a saved round
    metrics.jsonl    one JSON object a line
    tensorboard/     event files
    samples/         pictures
    .lock            held by the process that trains here

Paths go through `etils.epath`, so `gs://` works as well as a local path; only the lock needs a local file system.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import socket
import subprocess
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gan_jax")
_NOT_SUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_ABSENT = object()


class WorkdirError(RuntimeError):
    """A work directory that cannot be used as asked; the message is one line for the user."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Where the parts of a run lie.

    >>> str(Workdir("runs/ring").metrics)
    'runs/ring/metrics.jsonl'
    """

    path: epath.PathLike

    @property
    def root(self) -> epath.Path:
        """The directory itself."""
        return epath.Path(self.path)

    @property
    def config(self) -> epath.Path:
        """`config.json`."""
        return self.root / "config.json"

    @property
    def checkpoints(self) -> epath.Path:
        """The directory of checkpoints."""
        return self.root / "checkpoints"

    @property
    def metrics(self) -> epath.Path:
        """`metrics.jsonl`."""
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> epath.Path:
        """The directory of TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def samples(self) -> epath.Path:
        """The directory of pictures."""
        return self.root / "samples"


# ---------------------------------------------------------------------------------------------------------
# Files


def is_local(path: epath.PathLike) -> bool:
    """Whether `path` is on a file system of this machine, where links, renames and locks mean something.

    >>> is_local("runs/ring"), is_local("gs://bucket/ring")
    (True, False)
    """
    return "://" not in os.fspath(path)


def write_atomically(path: epath.Path, data: bytes) -> None:
    """Writes a whole file or nothing: a reader sees the old content or the new, also after a kill.

    Object stores replace an object in one piece; on a local path that takes a temporary file, `fsync`, a rename.

    Raises:
      OSError: the file system's own error; an existing file is then as it was.
    """
    if not is_local(path):
        path.write_bytes(data)
        return
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def reason(error: BaseException) -> str:
    """An error in a few words: the system's where it has some (the disk is full), else its first line.

    >>> reason(OSError(28, "No space left on device"))
    'the disk is full (No space left on device)'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    for known, words in (
        ("No space left on device", "the disk is full"),
        ("Disk quota exceeded", "the disk quota is used up"),
        ("Read-only file system", "the file system is read-only"),
        ("Permission denied", "no permission to write there"),
    ):
        if known in text:
            return f"{words} ({known})"
    first_line = text.strip().splitlines()[0] if text.strip() else ""
    return first_line or type(error).__name__


def refuse_links(workdir: Workdir) -> None:
    """Checks that no part of a work directory is a link that leads out of it: nothing is written elsewhere.

    The directory itself may be a link, and its parts may be links to one another.

    Raises:
      WorkdirError: naming the link.
    """
    if not is_local(workdir.root):
        return
    root = os.path.realpath(workdir.root)
    for part in (workdir.config, workdir.metrics, workdir.checkpoints, workdir.events, workdir.samples):
        there = os.path.realpath(part)
        if os.path.islink(part) and os.path.commonpath([root, there]) != root:
            raise WorkdirError(
                f"{part} is a link that leads out of the work directory, to {there}: remove it, or make the work "
                "directory itself the link."
            )


# ---------------------------------------------------------------------------------------------------------
# Configuration


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


def jsonable(value: Any, name: str = "config") -> Any:
    """`value` as JSON holds it: mappings (a `ConfigDict` too) to dicts, tuples to lists, numpy scalars to numbers.

    >>> jsonable({"betas": (0.5, 0.9), "rounds": 100})
    {'betas': [0.5, 0.9], 'rounds': 100}

    Raises:
      WorkdirError: naming the field, where a value has no JSON form.
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    raise WorkdirError(
        f"{name} is a {type(value).__name__}, which JSON cannot hold: a configuration is made of numbers, "
        "strings, booleans, None, lists and dicts."
    )


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
    """Writes `config.json` whole, making the directory if it is not there.

    Args:
      workdir: the work directory.
      config: the resolved configuration, a mapping or a `ConfigDict`.
      experiment: the experiment's name or file.
      source: a path inside the source tree whose commit is recorded.

    Raises:
      WorkdirError: where a value has no JSON form, or the directory cannot be written.
    """
    saved = SavedConfig(jsonable(config), experiment, library_versions(), git_commit(source))
    text = json.dumps(dataclasses.asdict(saved), indent=2, allow_nan=False) + "\n"
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
        content = json.loads(workdir.config.read_bytes())
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
    longer, and logged or saved at another pace, without being another run.

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
    """Holds a relaunch to the configuration that its work directory was made with.

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
            f"{workdir.root} was made with another configuration ({'; '.join(changed)}): give it back, choose "
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


# ---------------------------------------------------------------------------------------------------------
# The lock


class Lock:
    """One training process a work directory: `flock` on its `.lock`, which the system releases at any death.

    On storage that has no locks (`gs://`, some network file systems) there is none, with a warning.

    Args:
      workdir: the work directory; made if it is not there.

    Raises:
      WorkdirError: if another process holds it (naming that process), or the directory cannot be written.
    """

    def __init__(self, workdir: Workdir):
        self._descriptor: int | None = None
        if not is_local(workdir.root):
            warnings.warn(
                f"{workdir.root} cannot be locked: see to it yourself that one launch at a time trains there.",
                stacklevel=2,
            )
            return
        path = os.path.join(workdir.root, ".lock")
        try:
            os.makedirs(workdir.root, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise WorkdirError(f"Cannot write in work directory {workdir.root}: {reason(error)}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise WorkdirError(
                f"Work directory {workdir.root} is in use by {holder}: wait for it, stop it, or choose another "
                "--workdir."
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NOT_SUPPORTED:
                raise WorkdirError(f"Cannot lock {path}: {reason(error)}.") from error
            warnings.warn(f"{path} cannot be locked ({reason(error)}).", stacklevel=2)
            return
        self._descriptor = descriptor
        _HELD.add(self)
        with contextlib.suppress(
            OSError
        ):  # who holds it is a courtesy: a full disk must not stop a resume here
            os.ftruncate(descriptor, 0)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
            os.pwrite(descriptor, json.dumps(who).encode(), 0)

    def release(self) -> None:
        """Gives the work directory free; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _HELD.discard(self)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _release_in_child() -> None:
    # A forked data worker shares the open file, and with it the lock: it must not outlive its parent.
    for lock in list(_HELD):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)


def _holder(descriptor: int) -> str:
    try:
        who = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


# ---------------------------------------------------------------------------------------------------------
# The log


def parse_line(line: bytes) -> dict[str, Any] | None:
    """One line of `metrics.jsonl`, or `None` where it is not a whole record (a kill cuts the last line)."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    return record


def read_metrics(workdir: Workdir) -> list[dict[str, Any]]:
    """All records of `metrics.jsonl`, in order; the names of non-finite numbers become floats again.

    Raises:
      WorkdirError: if there is no such file.
    """
    try:
        records = [parse_line(line) for line in _lines(workdir.metrics)]
    except OSError as error:
        raise WorkdirError(f"Cannot read {workdir.metrics}: {reason(error)}.") from error
    return [
        {name: _number(value) for name, value in record.items()} for record in records if record is not None
    ]


def truncate_metrics(workdir: Workdir, step: int) -> int:
    """Drops what `metrics.jsonl` says of rounds after `step`, so that a resumed run's log has each round once.

    Lines that are no whole records go too. Nothing is rewritten where nothing is to be dropped.

    Returns:
      How many lines were dropped.

    Raises:
      WorkdirError: if the file cannot be rewritten; it is then as it was.
    """
    kept, dropped = [], 0
    try:
        for line in _lines(workdir.metrics):
            record = parse_line(line)
            if record is not None and record["step"] <= step:
                kept.append(line)
            else:
                dropped += 1
        if dropped:
            write_atomically(workdir.metrics, b"".join(kept))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise WorkdirError(f"Cannot rewrite {workdir.metrics}: {reason(error)}.") from error
    return dropped


def _lines(path: epath.Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
