"""One training process for each work directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
import warnings
import weakref

from gan_jax.runs.files import is_local, reason
from gan_jax.runs.workdir import Workdir, WorkdirError, WorkdirMovedError

_NOT_SUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_TRIES = 10
"""How often a directory is made again that a launch which fails at the same time removes."""


class Lock:
    """The right to train in a work directory: `flock` on its `.lock`, which the system releases at any death.

    On storage that has no locks (`gs://`, some network file systems) there is none, with a warning.

    Args:
      workdir: the work directory; made if it is not there.

    Raises:
      WorkdirError: if another process holds it (naming that process), or the directory cannot be written.
    """

    def __init__(self, workdir: Workdir):
        self._descriptor: int | None = None
        self._root = workdir.root
        self._folder: int | None = None
        if not is_local(workdir.root):
            warnings.warn(
                f"{workdir.root} cannot be locked: make sure that only one launch at a time trains there.",
                stacklevel=2,
            )
            return
        path = os.path.join(workdir.root, ".lock")
        self._made = None if os.path.isdir(workdir.root) else path
        for left in reversed(range(_TRIES)):
            descriptor = _opened(workdir, path)
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
            if not left or _is_at(descriptor, path):
                break
            os.close(descriptor)  # a launch that failed has removed the directory: this file locks nothing
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # if it has gone by now, nobody can say where it is
            self._folder = os.open(workdir.root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        _HELD.add(self)
        with contextlib.suppress(
            OSError
        ):  # naming the holder is a courtesy: a full disk must not stop a resume
            os.ftruncate(descriptor, 0)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
            os.pwrite(descriptor, json.dumps(who).encode(), 0)

    def check(self) -> None:
        """Checks that the work directory still is the one that is locked: nothing may be written into another.

        A path that cannot be looked up just now, of a network file system that does not answer, says nothing: what
        is written next says whether it can be.

        Raises:
          WorkdirMovedError: if it was moved or removed, or is another one now.
        """
        if self._folder is None:
            return
        try:
            if _is_at(self._folder, self._root, follow_links=True):
                return
        except OSError:
            return
        place = _place_of(self._folder)
        moved = f"was moved to {place}" if place else "was moved or removed"
        raise WorkdirMovedError(f"Work directory {self._root} {moved} while a run trained there.", place)

    def release(self) -> None:
        """Releases the work directory; a second call does nothing."""
        for descriptor in (self._descriptor, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._folder = None
        _HELD.discard(self)

    def _clear(self) -> None:
        """Removes the directory if this lock has made it and only empty files are in it: no run has begun."""
        if self._descriptor is None or self._made is None:
            return
        folder = os.path.dirname(self._made)
        with contextlib.suppress(OSError):
            if self._folder is None or not _is_at(self._folder, self._root, follow_links=True):
                return  # what is there now is somebody else's
            paths = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
            if not any(os.lstat(path).st_size for path in paths if path != self._made):
                shutil.rmtree(folder)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        self.release()


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _opened(workdir: Workdir, path: str, tries: int = _TRIES) -> int:
    """The lock file, made with its directory if they are not there."""
    try:
        os.makedirs(workdir.root, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if tries and isinstance(error, FileNotFoundError):
            return _opened(workdir, path, tries - 1)
        raise WorkdirError(f"Cannot write in work directory {workdir.root}: {reason(error)}.") from error


def _is_at(descriptor: int, path: os.PathLike[str] | str, *, follow_links: bool = False) -> bool:
    """Whether an open file or directory is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=follow_links))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _place_of(descriptor: int) -> str | None:
    """The path of an open directory; `None` if it is removed, or where the system does not tell."""
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None
    return path if _is_at(descriptor, path) else None


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
