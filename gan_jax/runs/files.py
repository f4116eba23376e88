"""Files of a work directory: read, appended to, and what an error of theirs means for the user.

What lies there may come from anybody: nothing is written, read or deleted through a link.
"""

from __future__ import annotations

import errno
import os
import stat

from etils import epath

from gan_jax.files import is_local as is_local
from gan_jax.files import reason as reason
from gan_jax.files import write_atomically as write_atomically


def read_regular(path: epath.Path) -> bytes:
    """The content of a regular file; a link is not followed, and nothing that could block is opened.

    Raises:
      OSError: the file system's own error; or if the path is a link, or no file.
    """
    if not is_local(path):
        return path.read_bytes()
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, which is not followed", os.fspath(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        return file.read()


def is_there(path: epath.Path) -> bool:
    """Whether there is something at `path`, be it a link to nothing.

    Raises:
      OSError: if that cannot be found out: a disk that does not answer is no empty disk.
    """
    if not is_local(path):
        return path.exists()
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def entries(folder: epath.Path) -> list[epath.Path]:
    """What lies in a folder; nothing where there is none, as on an object store before the first file in it.

    Raises:
      OSError: if it cannot be listed.
    """
    return list(folder.iterdir()) if is_there(folder) else []


def is_link(path: epath.Path) -> bool:
    """Whether `path` itself is a link; object stores have none."""
    return is_local(path) and os.path.islink(path)


def has_other_names(path: epath.Path) -> bool:
    """Whether a file has other names beside `path`, by hard links; object stores have none.

    Raises:
      OSError: the file system's own error.
    """
    return is_local(path) and os.lstat(path).st_nlink > 1


def root_reason(error: BaseException) -> str:
    """The first cause that says something a user knows, else the error itself."""
    cause: BaseException | None = error
    while cause is not None:
        text = reason(cause)
        if text.endswith(")") and "(" in text and isinstance(cause, OSError):
            return text
        cause = cause.__cause__ or cause.__context__
    return reason(error)


class Appended:
    """A file that records are appended to, each completely or not at all."""

    def __init__(self, path: epath.Path):
        self._path = path
        self._local = is_local(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._local:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o666)
        else:  # object stores do not append: the file is written again at every flush
            self._content = path.read_bytes() if path.exists() else b""
            self._written = len(self._content)

    def append(self, record: bytes) -> None:
        if not self._local:
            self._content += record
            return
        before = os.fstat(self._descriptor).st_size
        try:
            left = memoryview(record)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise

    def flush(self) -> None:
        if not self._local and self._written < len(self._content):
            self._path.write_bytes(self._content)
            self._written = len(self._content)

    def close(self) -> None:
        self.flush()
        if self._local:
            os.close(self._descriptor)
