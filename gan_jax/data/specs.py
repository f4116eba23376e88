"""Data by name, as it is written on a command line."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gan_jax.data import arrays, derive, encoded, images, pairs, parquet, stream, tfds_images
from gan_jax.data.augment import augmented
from gan_jax.data.conversion import sides
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset
from gan_jax.data.source import Source
from gan_jax.data.value_range import STANDARD, ValueRange, check_layout
from gan_jax.functional.augment import Augment
from gan_jax.types import Size

KINDS = (
    "'digits', 'mnist5k', 'tfds:NAME' or 'tfds:NAME@SPLIT', a path to a .npz or .npy file, an image folder, a .zip "
    "of images, a .parquet file or a folder of them (FOLDER@SPLIT), 'pairs:FOLDER', or 'stacked:', 'edges:' or "
    "'masks:' before any of these"
)
FOLDER_SIZE = 64
"""What the images of a folder or an archive are resized to where no size is given."""
RESIDENT_LIMIT = 2**31
"""Bytes: larger sets stay on the host and stream."""

PROBED = 256
"""Examples of a set that streams by which its range of values is recognised."""

IN_MEMORY = ("digits", "mnist5k")
"""Data sets that come with a package."""
_DERIVED: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "stacked": derive.stack_digits,
    "edges": derive.with_edges,
    "masks": derive.with_masks,
}


def load(spec: str, **options: Any) -> dict[str, np.ndarray]:
    """The arrays of `load_dataset`, whose options these are: `size`, `channels`, `value_range` and others.

    Returns:
      `x [N, ...]`, `y [N]` where there are labels, `condition` for pairs; in the standard range, uint8 in [0, 255]
      or float32 in [-1, 1].

    Raises:
      DataError: as `load_dataset`.

    >>> load("digits")["x"].shape
    (1797, 8, 8, 1)
    """
    return load_dataset(spec, **options).arrays


def load_dataset(
    spec: str,
    *,
    size: Size | None = None,
    channels: int | None = None,
    method: str = "lanczos",
    label_file: str = "",
    prepare: bool = False,
    value_range: ValueRange = None,
) -> Dataset:
    """The examples that `spec` names, with the names of their classes; what was skipped is logged in one line.

    Args:
      spec: `digits`, `mnist5k`, `tfds:mnist`, `tfds:mnist@test`, `path/to/file.npz` (or `.npy`), an image folder,
        a `.zip` of images, a `.parquet` file of images or a folder of them (`folder@test`), `pairs:folder`; before
        any but the last `stacked:` (1,000 modes), `edges:` or `masks:` (derived pairs).
      size: the side, or (height, width), that images from files and TFDS are cropped and resized to; where `None`,
        those of a folder or an archive become squares of `FOLDER_SIZE` and TFDS's keep their own. Arrays are not
        resized and must have it.
      channels: of images from files and TFDS: 1, 3, with transparency 2 or 4, or `None` for 1 where all are grey,
        else 3. Arrays must have it, and may have any number if it is given; `None` allows 1 and 3.
      method: how they are resized, one of `conversion.METHODS`.
      label_file: a CSV file of labels for a folder or an archive, as `FILE.csv` or `FILE.csv:COLUMN`.
      prepare: download and prepare a TFDS data set that is not there.
      value_range: `(low, high)`, which values are black and white; `standard` for [0, 255] in integers and [-1, 1]
        in floats; `None` recognises images of 0 and 1 and floats in [0, 1], with a warning.

    Returns:
      The arrays; the names of the classes reach to the largest label that is there.

    Raises:
      DataError: if the spec is not understood, or its data cannot be read, have another size, or are images that
        cannot be drawn (channels in front, another number of them than is asked for, no pixels, more axes).

    >>> load_dataset("digits").classes
    ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    if not isinstance(spec, str | pathlib.Path):
        raise DataError(f"Data are named by a text or a path, as 'digits'; got {type(spec).__name__}.")
    spec = str(spec)
    kind, rest = _kind_and_rest(spec)
    made: dict[str, Any] = {
        "channels": channels,
        "method": method,
        "label_file": label_file,
        "prepare": prepare,
    }
    if kind in _DERIVED:
        found = load_dataset(rest, size=size, value_range=value_range, **made)
        derived = _DERIVED[kind](found.arrays)
        kept = found.classes if "y" in derived and kind != "stacked" else ()
        return dataclasses.replace(found, arrays=derived, classes=kept, names=())
    path = pathlib.Path(spec).expanduser()
    if path.suffix in (".npz", ".npy"):
        found = Dataset(**arrays.load_npz_with_classes(path, value_range)._asdict())
    else:
        found = _read(spec, size, **made)
        ranges = arrays.recognised_ranges(found.arrays, value_range, repr(spec))
        kept_arrays = arrays.check_arrays(found.arrays, repr(spec), value_range=ranges)
        found = dataclasses.replace(found, arrays=kept_arrays)
        found.warn(spec)
    for name in {"x", "condition"} & found.arrays.keys():
        check_layout(name, found.arrays[name].shape, repr(spec), channels)
    _check_size(found.arrays, spec, size)
    return dataclasses.replace(found, classes=_labelled_classes(found))


def _read(spec: str, size: Size | None, *, label_file: str, prepare: bool, **made: Any) -> Dataset:
    """A data set that is neither derived nor a file of arrays, as it is stored."""
    kind, rest = _kind_and_rest(spec)
    if label_file and not has_files(spec):
        raise DataError(
            f"A file of labels, {label_file!r}, is for a folder or an archive of images; got {spec!r}."
        )
    if spec in ("digits", "mnist5k"):
        digits = arrays.load_digits() if spec == "digits" else arrays.load_mnist5k()
        return Dataset(arrays=digits, classes=tuple("0123456789"))
    if kind == "tfds":
        return tfds_images.read_tfds(*_name_and_split(rest), size=size, prepare=prepare, **made)
    if kind == "pairs":
        return pairs.read_pairs(rest, size or FOLDER_SIZE, **made)
    if has_files(spec):
        return images.read_images(open_files(spec, label_file), size or FOLDER_SIZE, **made)
    raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")


def has_files(spec: str) -> bool:
    """Whether a spec names files of encoded images: a folder, an archive, parquet files."""
    path = pathlib.Path(spec).expanduser()
    return path.is_dir() or path.suffix in (".zip", ".parquet") or _folder_and_split(spec) is not None


def _folder_and_split(spec: str) -> tuple[pathlib.Path, str] | None:
    """The folder of parquet files and the split that `FOLDER@SPLIT` or `FOLDER` names, else `None`."""
    path = pathlib.Path(spec).expanduser()
    if path.is_dir():
        return (path, "") if parquet.has_parquet(path) else None
    folder, at, split = spec.rpartition("@")
    path = pathlib.Path(folder).expanduser()
    return (path, split) if at and split and path.is_dir() and parquet.has_parquet(path) else None


def open_files(spec: str, label_file: str = "") -> encoded.EncodedImages:
    """The images of a folder, of a ZIP archive or of parquet files, not decoded yet.

    Raises:
      DataError: if they cannot be opened.
    """
    path, folder = pathlib.Path(spec).expanduser(), _folder_and_split(spec)
    if folder is not None or path.suffix == ".parquet":
        if label_file:
            raise DataError(
                f"A file of labels, {label_file!r}, is for files with names; parquet has its own."
            )
        return parquet.in_parquet(*(folder or (path, "")))
    is_archive = path.suffix == ".zip" and not path.is_dir()
    return (encoded.in_archive if is_archive else encoded.in_folder)(spec, label_file)


def _labelled_classes(found: Dataset) -> tuple[str, ...]:
    """The names of the classes up to that of the largest label, which is the last that a network knows.

    A part of a data set, or a file of labels that is of more images, may name others behind it.
    """
    labels = found.arrays.get("y")
    if labels is None:
        return ()
    return found.classes[: int(labels.max()) + 1] if labels.ndim == 1 else found.classes


def _check_size(found: dict[str, np.ndarray], spec: str, size: Size | None) -> None:
    """Checks that arrays that are not resized have the size that is asked for."""
    for name in {"x", "condition"} & found.keys():
        shape = found[name].shape[1:]
        if size is not None and shape[:2] != sides(size):
            raise DataError(
                f"{spec!r} has examples of {' x '.join(map(str, shape))} where {' x '.join(map(str, sides(size)))} "
                "is asked for: image files and TFDS are resized, arrays are not."
            )


def _kind_and_rest(spec: str) -> tuple[str, str]:
    """`edges:digits` as `edges` and `digits`; without a colon the second is empty."""
    kind, colon, rest = spec.partition(":")
    if not spec or (colon and not rest):
        raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")
    if not colon and kind in (*_DERIVED, "pairs", "tfds"):
        raise DataError(
            f"{kind!r} stands before a data set, '{kind}:NAME': a folder of that name is './{kind}'."
        )
    return kind, rest


def _name_and_split(rest: str) -> tuple[str, str]:
    name, _, split = rest.partition("@")
    return name, split or "train"


def open_source(
    spec: str,
    batch_size: int,
    seed: int = 0,
    *,
    size: Size | None = None,
    channels: int | None = None,
    method: str = "lanczos",
    label_file: str = "",
    prepare: bool = False,
    replace: bool = False,
    augment: Sequence[str | Augment] = (),
    resident_limit: int = RESIDENT_LIMIT,
    value_range: ValueRange = None,
) -> Source:
    """A source over what `spec` names: on the device if it fits there, else streaming from disk.

    A large image folder is converted once, into the cache, and memory-mapped; a large TFDS set is decoded by
    threads ahead of its use; a large `.npy` file is memory-mapped.

    Args:
      spec: as in `load_dataset`.
      batch_size: B.
      seed: of the order and of the augmentation.
      size: as in `load_dataset`.
      channels: as in `load_dataset`.
      method: as in `load_dataset`.
      label_file: as in `load_dataset`.
      prepare: as in `load_dataset`.
      replace: sample with replacement instead of epochs.
      augment: names or functions for `augmented`.
      resident_limit: how many bytes may live on the device.
      value_range: as in `load_dataset`; of a large file it is recognised by a part of its examples.

    Raises:
      DataError: if the spec is not understood, its data cannot be read, or the batch is larger than the data.

    >>> open_source("digits", batch_size=64).size
    1797
    """
    made: dict[str, Any] = {"channels": channels, "method": method}
    large = _large(spec, size, resident_limit, prepare, label_file, made)
    if large is None:
        loaded = load(
            spec, size=size, prepare=prepare, label_file=label_file, value_range=value_range, **made
        )
        source = arrays.from_arrays(loaded, batch_size, seed, replace=replace, value_range=STANDARD)
    else:
        read, count = large
        probe = read(np.linspace(0, count - 1, min(count, PROBED)).astype(np.int64))
        for name in {"x", "condition"} & probe.keys():
            check_layout(name, probe[name].shape, repr(spec), channels)
        ranges = arrays.recognised_ranges(probe, value_range, repr(spec))
        source = stream.from_reader(read, count, batch_size, seed, replace=replace, value_range=ranges)
    return augmented(source, *augment, seed=seed) if augment else source


def _large(
    spec: str, size: Size | None, limit: int, prepare: bool, label_file: str, made: dict[str, Any]
) -> tuple[stream.Reader, int] | None:
    """A reader and the number of examples where the set is larger than `limit`, else `None`."""
    kind, rest = _kind_and_rest(spec)
    path = pathlib.Path(spec).expanduser()
    if kind == "tfds":
        name, split = _name_and_split(rest)
        if tfds_images.decoded_bytes(name, split, size=size, prepare=prepare) > limit:
            return tfds_images.record_reader(name, split, size=size, prepare=prepare, **made)
    elif has_files(spec):
        files = open_files(spec, label_file)
        height, width = sides(size or FOLDER_SIZE)
        if files.count * (made["channels"] or 3) * height * width > limit:
            read = images.read_images(files, size or FOLDER_SIZE, memory_map=True, **made)
            read.warn(spec)
            return stream.array_reader(read.arrays), len(read.arrays["x"])
    elif path.suffix == ".npy" and path.is_file() and path.stat().st_size > limit:
        mapped = {"x": arrays.map_npy(path)}
        _check_size(mapped, spec, size)
        return stream.array_reader(mapped), len(mapped["x"])
    return None
