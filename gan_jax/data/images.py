"""Images from folders, ZIP archives and parquet files: any format that Pillow reads, converted once, and kept.

What cannot be read is skipped, counted and named.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gan_jax.data.cache import ONCE, Stored, Write, cached
from gan_jax.data.conversion import CHANGES, MAX_PIXELS, Conversion, is_color, quiet
from gan_jax.data.encoded import (
    ARRAYS,
    GRID,
    EncodedImages,
    Open,
    in_archive,
    in_folder,
    listing,
    printable,
    with_unlisted,
)
from gan_jax.data.errors import DAMAGED, DataError
from gan_jax.types import Size

_CHUNK, _PART = 1024, 32

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Examples that were read, and what is known about them.

    Attributes:
      arrays: `x [N, ...]`; `y [N]` where there are labels, `condition` for pairs.
      classes: the names of the classes, if they have names; label k is `classes[k]`.
      names: the files, in the order of the arrays; empty where examples have no names.
      skipped: `{file: reason}` for every file that was not read.
      record: how images were converted: size, crop, resize method, Pillow's version.
      changed: how many images were changed in which way, by `conversion.CHANGES`.
    """

    arrays: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    changed: dict[str, int] = dataclasses.field(default_factory=dict)

    def changes(self) -> tuple[str, ...]:
        """What was done to the images, in a line for the user; nothing if they are as they were.

        >>> x = np.zeros((3000, 8, 8, 3))
        >>> Dataset(arrays={"x": x}, changed={"cropped": 1200, "grey turned to RGB": 7}).changes()
        ('Of 3,000 images 1,200 were cropped, 7 grey turned to RGB.',)
        """
        done = [f"{self.changed[name]:,} {name}" for name in CHANGES if self.changed.get(name)]
        if not done:
            return ()
        first, *rest = done
        number, _, how = first.partition(" ")
        said = ", ".join([f"{number} were {how}", *rest])
        return (f"Of {len(self.arrays['x']):,} images {said}.",)

    def warn(self, where: str | pathlib.Path, at_most: int = 5) -> None:
        """Logs one line if files were skipped: how many, and the first of them with their reasons."""
        if self.skipped:
            first = itertools.islice(self.skipped.items(), at_most)
            named = ", ".join(f"{printable(name)} ({why})" for name, why in first)
            more = ", ..." if len(self.skipped) > at_most else ""
            total = len(self.skipped) + len(self.arrays["x"])
            _log.warning("Skipped %d of %d files in %s: %s%s", len(self.skipped), total, where, named, more)


def load_images(folder: str | pathlib.Path, size: Size, **options: Any) -> dict[str, np.ndarray]:
    """The arrays of `read_folder`; what was skipped is logged in one line.

    Raises:
      DataError: as `read_folder`.
    """
    read = read_folder(folder, size, **options)
    read.warn(folder)
    return read.arrays


def read_folder(
    folder: str | pathlib.Path, size: Size | None, *, label_file: str = "", **options: Any
) -> Dataset:
    """Every image under `folder`, as `read_images`.

    Args:
      folder: images, or sub-folders of images: the first folder of a path is the class, unless there is a file of
        labels, see `encoded`.
      size: see `read_images`.
      label_file: a CSV file of labels.
      **options: those of `read_images`.

    Raises:
      DataError: if there is no such folder, and as `read_images`.
    """
    return read_images(in_folder(folder, label_file), size, **options)


def read_archive(
    path: str | pathlib.Path, size: Size | None, *, label_file: str = "", **options: Any
) -> Dataset:
    """Every image in a ZIP archive, as `read_folder` reads a folder; nothing is unpacked to disk.

    Raises:
      DataError: if it is no ZIP archive, and as `read_images`.
    """
    return read_images(in_archive(path, label_file), size, **options)


def read_images(
    encoded: EncodedImages,
    size: Size | None,
    *,
    channels: int | None = None,
    method: str = "lanczos",
    max_pixels: int = MAX_PIXELS,
    part: str = "whole",
    labels: bool = True,
    use_cache: bool = True,
    memory_map: bool = False,
) -> Dataset:
    """Images as `Conversion` makes them, from the cache unless a file has changed.

    Args:
      encoded: where they are.
      size: the side of a square, or (height, width); `None` keeps their own, if it is the same for all.
      channels: see `Conversion`; if `None`, 1 where every image is grey, else 3.
      method: one of `conversion.METHODS`.
      max_pixels: larger images are skipped.
      part: `whole`, or the `left` or `right` half of every file.
      labels: whether sub-folders are classes; otherwise they are only part of the names.
      use_cache: whether the result is kept on disk.
      memory_map: leave the arrays on disk, for sets larger than the memory.

    Raises:
      DataError: if no image can be read, images differ in size with `size=None`, some have labels and others have
        none, or an argument is out of range.
    """
    encoded = without_ours(encoded)
    if channels is None:
        openers = (opener for chunk in encoded.chunks() for _, opener in chunk)
        channels = 3 if holds_for_any(openers, is_color) else 1
    conversion = Conversion(size=size, channels=channels, method=method, max_pixels=max_pixels, part=part)

    def build(write: Write) -> dict[str, Any]:
        changed: collections.Counter[str] = collections.Counter()
        lock, passing = threading.Lock(), threading.Event()

        def convert(item: tuple[str, Open]) -> np.ndarray:
            try:
                array, changes = _converted(item[1], conversion)
            except DataError as error:
                if may_pass(error):
                    passing.set()
                raise
            with lock:
                changed.update(changes)
            return array

        names: list[str] = []
        shapes: set[tuple[int, ...]] = set()

        def keep(read: list[tuple[str, Open]], arrays: np.ndarray) -> None:
            names.extend(name for name, _ in read)
            shapes.add(arrays.shape[1:])
            if len(shapes) > 1:
                raise DataError(f"The images of {encoded.where!r} differ in size: give size, as in size=64.")
            write("x", arrays)

        skipped = dict(encoded.skipped)
        for chunk in encoded.chunks():
            known, without = _labelled(encoded, chunk)
            skipped |= without
            failed = convert_all(known, convert, keep)
            skipped |= {name: why for (name, _), why in failed}
        if not names:
            raise DataError(f"No image in {encoded.where!r} can be read: {_first(skipped)}.")
        classes, y = labels_of(encoded, names) if labels else ((), None)
        if y is not None:
            write("y", y)
        return {
            "classes": list(classes),
            "names": names,
            "skipped": dict(sorted(skipped.items())),
            "changed": dict(sorted(changed.items())),
            **({ONCE: True} if passing.is_set() else {}),
        }

    key = {**encoded.key, "made": conversion.record(), **({} if labels else {"labels": False})}
    return dataset(cached(key, build, use_cache=use_cache, memory_map=memory_map), conversion)


def may_pass(error: DataError) -> bool:
    """Whether a file cannot be read for a reason that is not in the file: a server, no memory.

    Where permission is given, the file's record changes, and with it the key of the cache.
    """
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.errno is not None and not isinstance(cause, PermissionError)
    return isinstance(cause, MemoryError)


def dataset(stored: Stored, conversion: Conversion) -> Dataset:
    """What the cache holds of a set of images, by its parts."""
    return Dataset(
        arrays=stored.arrays,
        classes=tuple(stored.record["classes"]),
        names=tuple(stored.record["names"]),
        skipped=stored.record["skipped"],
        record=conversion.record(),
        changed=stored.record.get("changed", {}),  # which older versions did not count
    )


def holds_for_any(openers: Iterable[Open], test: Callable[[Any], bool]) -> bool:
    """Whether a test of encoded images, such as `is_color`, holds for any of them."""

    def holds(opener: Open) -> bool:
        try:
            return test(opener())
        except DAMAGED:  # Said with its reason when it is read.
            return False

    with quiet():
        return any(map(holds, openers))


def decoded(opener: Open, conversion: Conversion) -> np.ndarray:
    """An image as `[H, W, C]` uint8.

    Raises:
      DataError: saying why it cannot be read.
    """
    return _converted(opener, conversion)[0]


def _converted(opener: Open, conversion: Conversion) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        file = opener()
    except DAMAGED as error:
        raise DataError(f"damaged: {error}") from error
    return conversion.convert(file)


def _labelled(
    encoded: EncodedImages, chunk: Sequence[tuple[str, Open]]
) -> tuple[Sequence[tuple[str, Open]], dict[str, str]]:
    """Those images of a chunk that have a label, where a file names labels; and why the others are skipped."""
    table = encoded.table
    if table is None or not table.labels:
        return chunk, {}
    known = [item for item in chunk if item[0] in table]
    return known, {name: f"has no label in {table.where}" for name, _ in chunk if name not in table}


def labels_of(encoded: EncodedImages, names: Sequence[str]) -> tuple[Sequence[str], np.ndarray | None]:
    """The classes and the labels `[N]` of images by their names; without labels, `None` for these.

    Raises:
      DataError: if some have labels and others have none.
    """
    if encoded.table is not None:
        return encoded.table.numbered(names) or ((), None)
    owners = [name.split("/")[0] if "/" in name else None for name in names]
    classes = sorted({owner for owner in owners if owner is not None})
    if classes and None in owners:
        raise DataError(
            f"{encoded.where!r} has {owners.count(None)} images beside its sub-folders {classes[:5]}: labels come "
            "from sub-folders, so put every image into one, or none."
        )
    place = {owner: label for label, owner in enumerate(classes)}
    labels = [place[owner] for owner in owners if owner is not None]
    return classes, np.array(labels, np.int32) if classes else None


_SHOWN_BESIDE = {
    GRID: ARRAYS,
    "walks.png": "walks.npz",
    "walks.gif": "walks.npz",
    "projected.png": "projection.npz",
    "samples.png": "model.json",
}
"""Pictures of several samples at a time, each with what lies beside it where this package has written it."""


def without_ours(encoded: EncodedImages) -> EncodedImages:
    """Images without what this package has written among them: runs, and pictures of several samples at a time.

    What lies in a folder that cannot be listed is not known; it is one of what is skipped.
    """
    encoded = without_runs(with_unlisted(encoded))
    items = [item for chunk in encoded.chunks() for item in chunk] if "parquet" not in encoded.key else []
    names = {name for name, _ in items}

    def is_ours(name: str) -> bool:
        path = pathlib.PurePosixPath(name)
        return path.name in _SHOWN_BESIDE and str(path.with_name(_SHOWN_BESIDE[path.name])) in names

    ours = dict.fromkeys(sorted(filter(is_ours, names)), "shows several samples at a time")
    if not ours:
        return encoded
    kept = [(name, opener) for name, opener in items if name not in ours]
    return dataclasses.replace(
        encoded,
        chunks=lambda: iter([kept]),
        count=len(kept),
        key={**encoded.key, "ours": list(ours)},
        skipped={**encoded.skipped, **ours},
    )


def without_runs(encoded: EncodedImages) -> EncodedImages:
    """Images of a folder or archive without those of runs, which lie there when the launcher is called in it.

    Their pictures would be images of the next run. A work directory has `config.json` and `checkpoints` or
    `tensorboard`, a sweep's `sweep.json`.
    """
    if "parquet" in encoded.key:
        return encoded
    items = [item for chunk in encoded.chunks() for item in chunk]
    names = {name for name, _ in items}
    if not any(name.endswith(("/config.json", "/sweep.json")) for name in names):
        return encoded
    within = {str(parent) for name in names for parent in pathlib.PurePosixPath(name).parents}
    runs = {
        folder
        for folder in within - {"."}
        if f"{folder}/sweep.json" in names
        or (f"{folder}/config.json" in names and {f"{folder}/checkpoints", f"{folder}/tensorboard"} & within)
    }
    if not runs:
        return encoded
    kept = [(name, opener) for name, opener in items if not runs & _parents(name)]
    if not kept and "archive" in encoded.key:  # a packed run is named itself, as a run's folder may be
        return encoded
    outermost = {folder for folder in runs if not runs & _parents(folder)}
    left: dict[str, Any]
    if "folder" in encoded.key:
        left = {"files": listing(pathlib.Path(encoded.key["folder"]), [name for name, _ in kept])}
    else:
        left = {"runs": sorted(outermost)}
    return dataclasses.replace(
        encoded,
        chunks=lambda: iter([kept]),
        count=len(kept),
        key={**encoded.key, **left},
        skipped={
            **{name: why for name, why in encoded.skipped.items() if not runs & _parents(name)},
            **dict.fromkeys(sorted(outermost), "the work directory of a run or a sweep"),
        },
    )


def _parents(name: str) -> set[str]:
    return {str(parent) for parent in pathlib.PurePosixPath(name).parents}


def _first(skipped: dict[str, str], at_most: int = 3) -> str:
    if not skipped:
        return "it holds no files"
    first = itertools.islice(skipped.items(), at_most)
    named = "; ".join(f"{printable(name)}: {why}" for name, why in first)
    return f"{len(skipped)} files skipped ({named})"


def convert_all(
    items: Sequence[Any], convert: Callable[[Any], np.ndarray], write: Callable[[list[Any], np.ndarray], None]
) -> list[tuple[Any, str]]:
    """Converts items in chunks, by as many threads as there are cores.

    Args:
      items: what to convert.
      convert: one item to an array, the same shape for all; raises `DataError` where it cannot.
      write: called in order with converted items and their arrays `[n, ...]`.

    Returns:
      The items that could not be converted, each with the reason.
    """
    failed: list[tuple[Any, str]] = []
    for pairs in converted(items, convert):
        failed += [(item, result) for item, result in pairs if isinstance(result, str)]
        good = [(item, result) for item, result in pairs if not isinstance(result, str)]
        for _, same in itertools.groupby(good, key=lambda pair: pair[1].shape):
            run = list(same)
            write([item for item, _ in run], np.stack([array for _, array in run]))
    return failed


def converted(
    items: Sequence[Any], convert: Callable[[Any], np.ndarray], chunk_size: int = _CHUNK
) -> Iterator[list[tuple[Any, np.ndarray | str]]]:
    """Yields items in chunks, each with what it was converted to, or with the reason why it could not be.

    Args:
      items, convert: as in `convert_all`; the shapes may differ.
      chunk_size: the number of items that are converted at a time, by as many threads as there are cores.
    """

    def attempt(part: Sequence[Any]) -> list[np.ndarray | str]:
        # Many at a time: for small images handing over to a thread costs as much as decoding.
        results: list[np.ndarray | str] = []
        for item in part:
            try:
                results.append(convert(item))
            except DataError as error:
                results.append(str(error))
        return results

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), chunk_size):
            chunk = items[start : start + chunk_size]
            parts = [chunk[k : k + _PART] for k in range(0, len(chunk), _PART)]
            with quiet():
                results = list(itertools.chain.from_iterable(pool.map(attempt, parts)))
            yield list(zip(chunk, results, strict=True))
