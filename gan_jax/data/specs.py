"""Data by name, as it is written on a command line."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gan_jax.data import arrays, derive, images, pairs, stream, tfds_images
from gan_jax.data.augment import augmented
from gan_jax.data.errors import DataError
from gan_jax.data.source import Source
from gan_jax.data.value_range import STANDARD, ValueRange, check_layout
from gan_jax.functional.augment import Augment

KINDS = (
    "'digits', 'mnist5k', 'tfds:NAME' or 'tfds:NAME@SPLIT', a path to a .npz or .npy file, an image folder, "
    "'pairs:FOLDER', or 'stacked:', 'edges:' or 'masks:' before any of these"
)
FOLDER_SIZE = 64
"""What the images of a folder are resized to where no size is given."""
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


def load(
    spec: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    method: str = "lanczos",
    prepare: bool = False,
    value_range: ValueRange = None,
) -> dict[str, np.ndarray]:
    """The arrays that `spec` names: `x [N, ...]`, `y [N]` where there are labels, `condition` for pairs.

    Args:
      spec: `digits`, `mnist5k`, `tfds:mnist`, `tfds:mnist@test`, `path/to/file.npz` (or `.npy`), an image folder,
        `pairs:folder`; before any but the last `stacked:` (1,000 modes), `edges:` or `masks:` (derived pairs).
      size: height and width that images from folders and TFDS are resized to; where `None`, a folder's get
        `FOLDER_SIZE` and TFDS's keep their own. Others are not resized and must have it.
      channels: of images from folders and TFDS: 1, 3, or `None` for their own.
      method: how they are resized, one of `images.METHODS`.
      prepare: download and prepare a TFDS data set that is not there.
      value_range: `(low, high)`, which values are black and white; `standard` for [0, 255] in integers and [-1, 1]
        in floats; `None` recognises images of 0 and 1 and floats in [0, 1], with a warning.

    Returns:
      Arrays in the standard range: uint8 in [0, 255] or float32 in [-1, 1].

    Raises:
      DataError: if the spec is not understood, or its data cannot be read, have another size, or are images that
        cannot be drawn (channels in front, other than 1 or 3 of them, no pixels, more axes).

    >>> load("digits")["x"].shape
    (1797, 8, 8, 1)
    """
    kind, rest = _kind_and_rest(spec)
    made: dict[str, Any] = {"channels": channels, "method": method, "prepare": prepare}
    if kind in _DERIVED:
        return _DERIVED[kind](load(rest, size=size, value_range=value_range, **made))
    path = pathlib.Path(spec).expanduser()
    if path.suffix in (".npz", ".npy"):
        found = arrays.load_npz(path, value_range)
    else:
        found = _read(spec, size, **made)
        ranges = arrays.recognised_ranges(found, value_range, repr(spec))
        found = arrays.check_arrays(found, repr(spec), value_range=ranges)
    for name in {"x", "condition"} & found.keys():
        check_layout(name, found[name].shape, repr(spec))
    return _of_size(found, spec, size)


def _read(spec: str, size: int | None, *, prepare: bool, **made: Any) -> dict[str, np.ndarray]:
    """The arrays of a data set that is neither derived nor a file of arrays, as they are stored."""
    kind, rest = _kind_and_rest(spec)
    if spec == "digits":
        return arrays.load_digits()
    if spec == "mnist5k":
        return arrays.load_mnist5k()
    if kind == "tfds":
        return tfds_images.load_tfds(*_name_and_split(rest), size=size, prepare=prepare, **made)
    if kind == "pairs":
        return pairs.load_pairs(rest, size or FOLDER_SIZE, **made)
    path = pathlib.Path(spec).expanduser()
    if path.is_dir():
        return images.load_images(path, size or FOLDER_SIZE, **made)
    raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")


def _of_size(found: dict[str, np.ndarray], spec: str, size: int | None) -> dict[str, np.ndarray]:
    """Arrays that are not resized, if they have the size that is asked for."""
    for name in {"x", "condition"} & found.keys():
        shape = found[name].shape[1:]
        if size is not None and shape[:2] != (size, size):
            raise DataError(
                f"{spec!r} has examples of {' x '.join(map(str, shape))} where {size} x {size} is asked for: image "
                "folders and TFDS are resized, arrays are not."
            )
    return found


def _kind_and_rest(spec: str) -> tuple[str, str]:
    """`edges:digits` as `edges` and `digits`; without a colon the second is empty."""
    kind, colon, rest = spec.partition(":")
    if not spec or (colon and not rest):
        raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")
    return kind, rest


def _name_and_split(rest: str) -> tuple[str, str]:
    name, _, split = rest.partition("@")
    return name, split or "train"


def open_source(
    spec: str,
    batch_size: int,
    seed: int = 0,
    *,
    size: int | None = None,
    channels: int | None = None,
    method: str = "lanczos",
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
      spec: as in `load`.
      batch_size: B.
      seed: of the order and of the augmentation.
      size: as in `load`.
      channels: as in `load`.
      method: as in `load`.
      prepare: as in `load`.
      replace: sample with replacement instead of epochs.
      augment: names or functions for `augmented`.
      resident_limit: how many bytes may live on the device.
      value_range: as in `load`; of a large file it is recognised by a part of its examples.

    Raises:
      DataError: if the spec is not understood, its data cannot be read, or the batch is larger than the data.

    >>> open_source("digits", batch_size=64).size
    1797
    """
    made: dict[str, Any] = {"channels": channels, "method": method}
    large = _large(spec, size, resident_limit, prepare, made)
    if large is None:
        loaded = load(spec, size=size, prepare=prepare, value_range=value_range, **made)
        source = arrays.from_arrays(loaded, batch_size, seed, replace=replace, value_range=STANDARD)
    else:
        read, count = large
        probe = read(np.linspace(0, count - 1, min(count, PROBED)).astype(np.int64))
        for name in {"x", "condition"} & probe.keys():
            check_layout(name, probe[name].shape, repr(spec))
        ranges = arrays.recognised_ranges(probe, value_range, repr(spec))
        source = stream.from_reader(read, count, batch_size, seed, replace=replace, value_range=ranges)
    return augmented(source, *augment, seed=seed) if augment else source


def _large(
    spec: str, size: int | None, limit: int, prepare: bool, made: dict[str, Any]
) -> tuple[stream.Reader, int] | None:
    """A reader and the number of examples where the set is larger than `limit`, else `None`."""
    kind, rest = _kind_and_rest(spec)
    path = pathlib.Path(spec).expanduser()
    if kind == "tfds":
        name, split = _name_and_split(rest)
        if tfds_images.decoded_bytes(name, split, size=size, prepare=prepare) > limit:
            return tfds_images.record_reader(name, split, size=size, prepare=prepare, **made)
    elif path.is_dir():
        side = size or FOLDER_SIZE
        if len(images.find_files(path.resolve())[0]) * 3 * side**2 > limit:
            read = images.read_folder(path, side, memory_map=True, **made)
            read.warn(path)
            return stream.array_reader(read.arrays), len(read.arrays["x"])
    elif path.suffix == ".npy" and path.is_file() and path.stat().st_size > limit:
        mapped = _of_size({"x": arrays.map_npy(path)}, spec, size)
        return stream.array_reader(mapped), len(mapped["x"])
    return None
