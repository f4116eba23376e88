"""Files that are written completely or not at all, folders that are held, and what an error means for the user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator

from etils import epath


def is_local(path: epath.PathLike) -> bool:
    """Whether `path` is on a file system of this machine, where links, renames and locks mean something.

    >>> is_local("runs/ring"), is_local("gs://bucket/ring")
    (True, False)
    """
    return "://" not in os.fspath(path)


def write_atomically(path: epath.PathLike, data: bytes) -> None:
    """Writes the complete file or nothing: a reader sees the old content or the new, also after a kill.

    Object stores replace an object in one piece; on a local path that takes a temporary file, `fsync`, a rename.

    Raises:
      OSError: the file system's own error; an existing file is then as it was.
    """
    path = epath.Path(path)
    if not is_local(path):
        path.write_bytes(data)
        return
    # A name that nobody can guess, and a file that is new: whatever lies there already is not followed.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # a full disk's, say
            error.filename = os.fspath(path)
        raise


def replace_file(path: epath.PathLike, data: bytes) -> None:
    """Writes a file that a user names completely or not at all.

    Of a link what it points to is written, and a pipe or a device is written to.

    Raises:
      OSError: the file system's own error; an existing file is then as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(f"{folder}/scores.json", b"{}")
    ...     epath.Path(f"{folder}/scores.json").read_bytes()
    b'{}'
    """
    if not is_local(path):
        write_atomically(path, data)
        return
    path = os.path.expanduser(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as opened:
            opened.write(data)
        return
    write_atomically(os.path.realpath(path), data)


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
    if isinstance(error, FileNotFoundError) and error.errno is None:  # an object store's
        return f"nothing is there: {text}"
    first_line = text.strip().splitlines()[0] if text.strip() else ""
    return first_line or type(error).__name__


@contextlib.contextmanager
def locked(folder: epath.PathLike, *, wait: bool) -> Iterator[bool]:
    """Holds a folder within the block against others that do; the system releases it at any death.

    Args:
      folder: which nothing is written into for that.
      wait: until nobody else holds it.

    Yields:
      Whether it is held: by nobody else, and on storage that has locks.
    """
    descriptor, held = None, False
    try:
        if is_local(folder):
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)
