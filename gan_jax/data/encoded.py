"""Sets of encoded images: the files of a folder or of a ZIP archive, with their labels.

Labels are the first folder of each name, unless a `dataset.json` (as StyleGAN's tools write) or a `labels.csv` lies
at the top, or a CSV file is given. Nothing outside the folder is opened, and nothing is unpacked to disk.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias

from gan_jax.data.errors import DAMAGED, DataError
from gan_jax.data.label_files import NAMES, LabelTable, read_label_file

MAX_BYTES = 2**28
"""Larger files of an archive are skipped: a small archive can unpack to terabytes."""

GRID, ARRAYS = "grid.png", "samples.npz"
"""Beside the samples of `--mode=sample --out=DIR`: where both are at the top, neither is one of the images."""

Open: TypeAlias = Callable[[], pathlib.Path | IO[bytes]]
"""Opens one encoded image, in any thread; what it raises is one of `DAMAGED`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncodedImages:
    """Images that have not been decoded yet.

    Attributes:
      where: the folder or file, for messages.
      chunks: `() -> sequences of (name, opener)`, all images in the order of their names.
      count: how many there are.
      key: what identifies their content, for the cache.
      skipped: `{name: reason}` for what is no candidate, as links that lead elsewhere.
      table: the label of each name; `None` where labels are the first folders of the names.
    """

    where: str
    chunks: Callable[[], Iterator[Sequence[tuple[str, Open]]]]
    count: int
    key: Mapping[str, Any]
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    table: LabelTable | None = None


def in_folder(folder: str | pathlib.Path, label_file: str = "", *, labels: bool = True) -> EncodedImages:
    """The files under a folder.

    Args:
      folder: images, or sub-folders of images.
      label_file: a CSV file of labels; empty for one at the top of the folder, else its sub-folders.
      labels: whether a file of labels at the top is read.

    Raises:
      DataError: if there is no such folder, or its file of labels cannot be read.
    """
    root = existing_folder(folder)
    files, links = find_files(root)
    at_top = [name for name in NAMES if name in files]
    ours = (GRID, ARRAYS) if {GRID, ARRAYS} <= set(files) else ()
    candidates = [name for name in files if name not in (*NAMES, *ours)]
    table = None
    if label_file or (labels and at_top):
        path = label_file or str(root / at_top[0])
        table = read_label_file(path)
    openers = [(name, functools.partial(pathlib.Path, root, name)) for name in candidates]
    return EncodedImages(
        where=str(folder),
        chunks=lambda: iter([openers]),
        count=len(candidates),
        key={"folder": str(root), "files": listing(root, files), "links": links, **key_of(table)},
        skipped=links,
        table=table,
    )


def in_archive(path: str | pathlib.Path, label_file: str = "", *, labels: bool = True) -> EncodedImages:
    """The files of a ZIP archive, those of the StyleGAN tools among them.

    Args:
      path: the archive.
      label_file, labels: as in `in_folder`.

    Raises:
      DataError: if there is no such file, it is no ZIP archive, or its file of labels cannot be read.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"There is no file {str(path)!r}: expected a ZIP archive of images.")
    try:
        archive = zipfile.ZipFile(file)
        check_distinct(archive, str(path))
        named = {entry_name(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}
        entries = {name: named[name] for name in sorted(named) if not is_hidden(name)}
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{str(path)!r} cannot be read as a ZIP archive ({error}).") from error
    at_top = [name for name in NAMES if name in entries]
    candidates = [name for name in entries if name not in NAMES]
    skipped = {
        name: f"unpacks to {entries[name].file_size} bytes, more than {MAX_BYTES}"
        for name in candidates
        if entries[name].file_size > MAX_BYTES
    }
    table = None
    if label_file:
        table = read_label_file(label_file)
    elif labels and at_top:
        table = read_label_file(at_top[0], functools.partial(_unpacked, archive, entries[at_top[0]]))
    openers = [
        (name, functools.partial(_opened, archive, entries[name]))
        for name in candidates
        if name not in skipped
    ]
    return EncodedImages(
        where=str(path),
        chunks=lambda: iter([openers]),
        count=len(openers),
        key={
            "archive": str(file.resolve()),
            "files": listing(file.resolve().parent, [file.name]),
            **key_of(table),
        },
        skipped=skipped,
        table=table,
    )


def check_distinct(archive: zipfile.ZipFile, where: str) -> None:
    """Checks that no two entries of an archive have one name: a name would stand for the last of them alone.

    Raises:
      DataError: naming the first such entry.
    """
    names = [entry_name(entry.filename) for entry in archive.infolist() if not entry.is_dir()]
    if len(set(names)) < len(names):
        name, number = collections.Counter(names).most_common(1)[0]
        raise DataError(
            f"{where!r} has {number} entries named {name!r}, and a name stands for one image: pack it again."
        )


def key_of(table: LabelTable | None) -> dict[str, Any]:
    """What identifies a table of labels in the cache; nothing where there is none."""
    return {} if table is None else {"labels": table.digest}


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    return io.BytesIO(_unpacked(archive, entry))


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MAX_BYTES:
        raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes, more than {MAX_BYTES}")
    return archive.read(entry)


def entry_name(name: str) -> str:
    """The name of an entry as a relative path, however the archive's program has written it.

    >>> entry_name("./cat/1.png"), entry_name("/cat/1.png"), entry_name("cat\\\\1.png")
    ('cat/1.png', 'cat/1.png', 'cat/1.png')
    """
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def is_hidden(name: str) -> bool:
    """Whether a path in an archive is none of its data: hidden, or added by macOS.

    >>> is_hidden("a/.b/c.png"), is_hidden("__MACOSX/a.png"), is_hidden("a/b.png")
    (True, True, False)
    """
    parts = name.split("/")
    return parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts)


def existing_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """`folder`, resolved.

    Raises:
      DataError: if there is none.
    """
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}: expected images, or sub-folders of images.")
    return path.resolve()


def find_files(root: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """Files under `root` as sorted relative POSIX paths, and `{name: reason}` for links that are not followed.

    Hidden files and folders are no data and are left out.
    """
    files, skipped = [], {}
    for where, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *names]:
            path = pathlib.Path(where, name)
            relative = path.relative_to(root).as_posix()
            if name.startswith(".") or (path.is_dir() and not path.is_symlink()):
                continue
            # Unlike `Path.resolve`, `realpath` raises nothing where links lead in a circle.
            if path.is_symlink() and not pathlib.Path(os.path.realpath(path)).is_relative_to(root):
                skipped[relative] = "a link that leads out of the folder"
            elif not path.is_file():
                skipped[relative] = "a link to a folder or to nothing, or not a regular file"
            else:
                files.append(relative)
    return sorted(files), skipped


UNLISTED = "cannot be listed"
"""How the reason begins for which it is not known what lies in a folder: no permission, a server that has gone."""


def unlisted(root: pathlib.Path) -> dict[str, str]:
    """`{name: reason}` for the folders under `root`, itself among them, whose files `find_files` cannot know of.

    Hidden folders and what a file system keeps at its own top (`lost+found`) are none of them.
    """
    failed: dict[str, str] = {}

    def fail(error: OSError) -> None:
        name = pathlib.Path(error.filename).relative_to(root).as_posix()
        failed[name] = f"{UNLISTED}: {error.strerror or error}"

    for _, folders, _ in os.walk(root, onerror=fail, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "lost+found"]
    return dict(sorted(failed.items()))


def named_unlisted(failed: Mapping[str, str]) -> str:
    """The first of such folders, for a message."""
    name, why = next(iter(failed.items()))
    return f"a folder that {why}, {printable(name)}"


def with_unlisted(encoded: EncodedImages) -> EncodedImages:
    """A folder's images, with the folders that cannot be listed among what is skipped."""
    failed = unlisted(pathlib.Path(encoded.key["folder"])) if "folder" in encoded.key else {}
    if not failed:
        return encoded
    skipped = {**encoded.skipped, **failed}
    return dataclasses.replace(encoded, skipped=skipped, key={**encoded.key, "links": skipped})


def printable(name: str) -> str:
    """A file's name, or a text that quotes one, for a message: nothing in it controls a terminal.

    What does not print is escaped (escape sequences, reversed text, line breaks), and so are bytes that are not
    UTF-8.

    >>> printable("caf\\udce9\\x1b[2J.png")
    'caf\\\\xe9\\\\x1b[2J.png'
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in name)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def listing(root: pathlib.Path, files: Sequence[str]) -> str:
    """A sum over what the file system says of the files: another one means that something may have changed.

    A file that replaces another of the same name, size and time of writing (`cp -p`, `rsync -t`, an unpacked
    archive) has another inode or another time of change, which no program sets.
    """
    total = hashlib.sha256()
    for name in files:
        about = (root / name).stat()
        numbers = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
        total.update(b"\0".join([os.fsencode(name), *(str(n).encode() for n in numbers)]) + b"\n")
    return total.hexdigest()
