"""Files: written completely or not at all, appended to, and what an error of theirs means for the user."""

from __future__ import annotations

import contextlib
import os

from etils import epath


def is_local(path: epath.PathLike) -> bool:
    """Whether `path` is on a file system of this machine, where links, renames and locks mean something.

    >>> is_local("runs/ring"), is_local("gs://bucket/ring")
    (True, False)
    """
    return "://" not in os.fspath(path)


def write_atomically(path: epath.Path, data: bytes) -> None:
    """Writes the complete file or nothing: a reader sees the old content or the new, also after a kill.

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
    """An error in a short phrase: the system's where it has one (the disk is full), else its first line.

    >>> reason(OSError(28, "No space left on device"))
    'the disk is full (No space left on device)'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    for known, phrase in (
        ("No space left on device", "the disk is full"),
        ("Disk quota exceeded", "the disk quota is used up"),
        ("Read-only file system", "the file system is read-only"),
        ("Permission denied", "no permission to write there"),
    ):
        if known in text:
            return f"{phrase} ({known})"
    first_line = text.strip().splitlines()[0] if text.strip() else ""
    return first_line or type(error).__name__


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
