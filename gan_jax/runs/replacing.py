"""A folder's files replaced by others: those of before go when all the new ones are written.

    .new-<token>/       the new files, until each of them is written
    .earlier-<token>/   those of before, while the new ones take their places

A full disk, or a kill while the files are written, leaves what was there. A kill between the renames at the end
loses nothing either: what is not in its place is in one of the two folders. When the next files are all written,
what kills have left is cleared away.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping

from etils import epath

from gan_jax.runs.files import is_local, is_there, read_regular, write_atomically

_LEFT = re.compile(r"\.(new|earlier)-[0-9a-f]{16}")


def not_as_written(
    directory: epath.Path, names: Iterable[str], record: str, digests: Mapping[str, str]
) -> list[str]:
    """Those of a folder's files that are not as they were written: somebody's own, or edited since; sorted.

    Args:
      directory: where they are.
      names: of the files; one that is not there is none of them.
      record: the file in which the digests stand, which is as it was written where there are any.
      digests: the sha256 of each file as it was written, in hexadecimal digits, by name.

    Raises:
      OSError: the file system's own error, or for a link.
    """

    def is_other(name: str) -> bool:
        if not is_there(directory / name) or (name == record and digests):
            return False
        return hashlib.sha256(read_regular(directory / name)).hexdigest() != digests.get(name)

    return sorted(filter(is_other, set(names)))


def replace_files(
    directory: epath.Path, files: Mapping[str, bytes], *, last: str, stale: Iterable[str] = ()
) -> None:
    """Writes files into a directory, in place of those of the same names and of stale ones.

    Args:
      directory: made if it is not there. Files of other names stay.
      files: their contents by name.
      last: the one of them that says that all are there: the first that goes, and the last that comes. On an object
        store, which renames nothing, the others are written between.
      stale: names of files that go too, where they are there.

    Raises:
      OSError: the file system's own error, or for a folder of one of the names; what was there is as it was.
    """
    directory.mkdir(parents=True, exist_ok=True)
    order = sorted(files, key=lambda name: name == last)
    going = [last, *(name for name in dict.fromkeys((*files, *stale)) if name != last)]
    if not is_local(directory):
        for name in (last, *stale):
            (directory / name).unlink(missing_ok=True)
        for name in order:
            write_atomically(directory / name, files[name])
        return
    root, token = pathlib.Path(directory), secrets.token_hex(8)
    for name in going:
        if (root / name).is_dir() and not (root / name).is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(root / name))
    new, earlier = root / f".new-{token}", root / f".earlier-{token}"
    done = False
    try:
        new.mkdir()
        for name in order:
            write_atomically(epath.Path(new / name), files[name])
        earlier.mkdir()
        _exchange(root, new, earlier, order, going)
        done = True
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if done:
            for left in filter(_is_left, root.iterdir()):
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):
            earlier.rmdir()


def _is_left(path: pathlib.Path) -> bool:
    return bool(_LEFT.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _exchange(
    root: pathlib.Path, new: pathlib.Path, earlier: pathlib.Path, order: list[str], going: list[str]
) -> None:
    """Moves the earlier files out and the new ones in; where that fails, all go back to where they were."""
    moved: list[tuple[pathlib.Path, pathlib.Path]] = []
    try:
        for source, target, names in ((root, earlier, going), (new, root, order)):
            for name in names:
                if os.path.lexists(source / name):
                    os.rename(source / name, target / name)
                    moved.append((target / name, source / name))
    except BaseException:
        for there, before in reversed(moved):
            os.rename(there, before)
        raise
