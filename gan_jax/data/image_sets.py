"""Sets of images that are read in order, in bounded memory: for evaluations, where each image is needed once.

A set is a folder with or without sub-folders, a `.npz` or `.npy`, a ZIP of images as the StyleGAN tools make them,
a prepared TFDS split, or a data set that comes with a package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from gan_jax.data import specs, tfds_images
from gan_jax.data.array_files import ArrayFile, file_digest, list_arrays
from gan_jax.data.arrays import encode, unmasked
from gan_jax.data.conversion import Conversion, is_color, quiet
from gan_jax.data.encoded import (
    UNLISTED,
    EncodedImages,
    Open,
    in_archive,
    in_folder,
    listing,
    named_unlisted,
    printable,
)
from gan_jax.data.errors import DataError
from gan_jax.data.images import converted, decoded, holds_for_any, labels_of, may_pass, without_ours
from gan_jax.data.label_files import check_classes
from gan_jax.data.value_range import DARK, ROUNDING, check_layout, recognise_bounds

NAMES = ("arr_0", "x", "samples", "images")
"""The names under which `.npz` files of others and of ours hold images, in the order of preference."""
LABEL_NAMES = ("y", "labels", "arr_1")
"""The names under which they hold labels."""
DAMAGED_FILES = ("refuse", "skip")
_PROBED = 64
"""Encoded images, evenly spread, by which it is recognised that all are of 0 and 1; more where these are black."""
_BLOCK_BYTES = 2**26
"""How many bytes of decoded images are in memory at a time, as far as one image is smaller."""


class Labels(NamedTuple):
    """The classes of images.

    Attributes:
      numbers: `[N]`, integers from 0.
      names: the names of the classes, if they have names; number k is `names[k]`.
    """

    numbers: np.ndarray
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images that are read in order.

    Attributes:
      name: what they are, for messages.
      number: how many there are, those included that turn out to be damaged.
      shape: `(H, W, C)` of every image.
      value_range: a description of the stored values.
      blocks: `(start, stop) -> blocks [n, H, W, C]` uint8 of these images, in order; raises `DataError` for an
        image that cannot be read.
      content: `() -> text`, which determines the images, equal for equal files; `None` if it cannot be known
        without making them.
      labels: `skipped images -> Labels` of the others, `None` for images without labels; raises `DataError` if
        they cannot be read.
      skipped: `{image: reason}` for images that were skipped, filled as they are read.
      passing: those of `skipped` that can be read another time, for the reason is not in them.
      note: what is to be said of the set beside its number, such as files that are no images.
    """

    name: str
    number: int
    shape: tuple[int, int, int]
    value_range: str
    blocks: Callable[[int, int], Iterator[np.ndarray]]
    content: Callable[[], str] | None
    labels: Callable[[Collection[str]], Labels | None] = lambda skipped: None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    passing: set[str] = dataclasses.field(default_factory=set)
    note: str = ""

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yields batches of `size` images; the last may be smaller.

        Args:
          size: the number of images.
          start, stop: the first image, and that behind the last; all by default.
        """
        held: list[np.ndarray] = []
        for block in self.blocks(start, self.number if stop is None else stop):
            held.append(block)
            while sum(map(len, held)) >= size:
                joined = np.concatenate(held)
                yield joined[:size]
                held = [joined[size:]]
        rest = np.concatenate(held) if held else np.empty((0, *self.shape), np.uint8)
        if len(rest):
            yield rest


def open_images(
    spec: str | pathlib.Path, *, size: int | None = None, channels: int | None = None, damaged: str = "refuse"
) -> ImageSet:
    """The images that a name stands for; they are not read yet, but for the first one.

    Args:
      spec: a folder, a `.npz` or `.npy`, a `.zip`, `tfds:NAME@SPLIT`, or another name for `gan_jax.data.load`.
      size: crop encoded images at their centre to a square and resize them to `size` x `size` by Lanczos; `None`
        leaves them, and then all must have one size.
      channels: 1 or 3; `None` takes 1 where all images are grey, else 3.
      damaged: `refuse` an encoded image that cannot be read, or `skip` and count it.

    Raises:
      DataError: if there is no such set, it has no images, or the first cannot be read.
    """
    if damaged not in DAMAGED_FILES:
        raise DataError(f"Damaged images: {' or '.join(DAMAGED_FILES)}, got {damaged!r}.")
    text, path = str(spec), pathlib.Path(spec).expanduser()
    if path.is_dir():
        return _folder(path, size, channels, damaged)
    if path.suffix == ".zip":
        return _archive(path, size, channels, damaged)
    if path.suffix in (".npz", ".npy"):
        return images_in_arrays(list_arrays(path), text)
    if text.startswith("tfds:"):
        return _tfds(text, size, channels)
    if text in specs.IN_MEMORY:
        loaded = specs.load(text)
        labels = Labels(loaded["y"].astype(np.int64)) if "y" in loaded else None
        return dataclasses.replace(from_array(loaded["x"], text), labels=lambda skipped: labels)
    if path.is_file() and _is_image(path.name):
        raise DataError(
            f"{text!r} is a single image: name a set of them, such as its folder, {str(path.parent)!r}."
        )
    raise DataError(
        f"There are no images {text!r}: expected a folder, a .npz, .npy or .zip file, tfds:NAME@SPLIT, "
        f"{' or '.join(specs.IN_MEMORY)}."
    )


# ---------------------------------------------------------------------------------------------------------
# Encoded images


class _Files(NamedTuple):
    """Encoded images.

    Attributes:
      where: what holds them, for messages.
      openers: by the images' names, in order.
      content: `() -> text` that determines them.
      labelled: `() -> ` the same images with their labels.
      note: what was left out.
      unlisted: why what lies in a folder is not known, by its name.
    """

    where: str
    openers: dict[str, Open]
    content: Callable[[], str]
    labelled: Callable[[], EncodedImages]
    note: str
    unlisted: dict[str, str]


def _folder(path: pathlib.Path, size: int | None, channels: int | None, damaged: str) -> ImageSet:
    where = f"The folder {str(path)!r}"

    def content(openers: dict[str, Open]) -> str:
        total = hashlib.sha256()
        for name in openers:
            total.update(f"{file_digest(path / name)}\n".encode())
        return total.hexdigest()

    files = _files(where, lambda **options: without_ours(in_folder(path, **options)), content)
    return _encoded(str(path), files, size, channels, damaged)


def _archive(path: pathlib.Path, size: int | None, channels: int | None, damaged: str) -> ImageSet:
    where = f"The ZIP file {str(path)!r}"
    files = _files(
        where, lambda **options: without_ours(in_archive(path, **options)), lambda _: file_digest(path)
    )
    return _encoded(str(path), files, size, channels, damaged)


def _files(
    where: str, opened: Callable[..., EncodedImages], content: Callable[[dict[str, Open]], str]
) -> _Files:
    """The images among the files that are found."""
    encoded = opened(labels=False)
    found = [item for chunk in encoded.chunks() for item in chunk]
    openers = {name: opener for name, opener in found if _is_image(name)}
    others = len(found) - len(openers)
    notes = [f"{others} files that are no images were left out"] if others else []
    if encoded.skipped:
        name, why = next(iter(encoded.skipped.items()))
        notes.append(f"{len(encoded.skipped)} files were left out: {printable(name)} ({why})")
    unlisted = {name: why for name, why in encoded.skipped.items() if why.startswith(UNLISTED)}
    return _Files(where, openers, lambda: content(openers), opened, "; ".join(notes), unlisted)


@functools.cache
def _extensions() -> frozenset[str]:
    from PIL import Image

    return frozenset(Image.registered_extensions())


def _is_image(name: str) -> bool:
    return pathlib.PurePosixPath(name).suffix.lower() in _extensions()


def _encoded(name: str, files: _Files, size: int | None, channels: int | None, damaged: str) -> ImageSet:
    """A set of encoded images."""
    if files.unlisted and damaged == "refuse":
        raise DataError(
            f"{files.where} has {named_unlisted(files.unlisted)}: its images would be missing. Make it readable, "
            "or give damaged='skip' (--damaged=skip) to leave it out."
        )
    if not files.openers:
        note = f" ({files.note})" if files.note else ""
        raise DataError(
            f"{files.where} has no images{note}: name one with files that end in .png, .jpg or another format of "
            "Pillow's, in sub-folders or not."
        )
    if channels is None:
        channels = 3 if holds_for_any(files.openers.values(), is_color) else 1
    conversion = Conversion(size=size, channels=channels)
    skipped: dict[str, str] = {}
    passing: set[str] = set()
    first_file, first = _first(files, conversion, damaged)
    shape, names = first.shape, list(files.openers)

    def probe(place: int) -> np.ndarray | None:
        with contextlib.suppress(DataError), quiet():
            return decoded(files.openers[names[place]], conversion)
        return None

    binary = _is_binary(name, len(names), probe)
    step = max(1, min(1024, _BLOCK_BYTES // first.nbytes))

    def convert(file: str) -> np.ndarray:
        try:
            return decoded(files.openers[file], conversion)
        except DataError as error:
            if may_pass(error):
                passing.add(printable(file))
            raise

    def blocks(start: int, stop: int) -> Iterator[np.ndarray]:
        skipped.clear()
        passing.clear()
        for results in converted(names[start:stop], convert, step):
            good = []
            for file, result in results:
                if isinstance(result, str):
                    if damaged == "refuse":
                        raise _unreadable(files.where, file, result)
                    skipped[printable(file)] = result
                elif result.shape != shape:
                    raise DataError(
                        f"{files.where} has images of several sizes: {printable(first_file)} is {_sides(shape)}, "
                        f"{printable(file)} is {_sides(result.shape)}. Give size= (--size=N) to crop and resize "
                        "all to N x N."
                    )
                else:
                    good.append(result)
            if good:
                yield np.stack(good)

    return ImageSet(
        name=name,
        number=len(names),
        shape=(shape[0], shape[1], shape[2]),
        value_range=_RANGES[binary],
        blocks=_from_black_to_white(files.where, blocks) if binary else blocks,
        content=lambda: f"{files.content()} {conversion.record()} {damaged}{_OF_CONTENT[binary]}",
        labels=functools.partial(_labels, files),
        skipped=skipped,
        passing=passing,
        note=files.note,
    )


_RANGES = {False: "uint8 [0, 255]", True: "uint8 of 0 and 1"}
_OF_CONTENT = {False: "", True: " of 0 and 1"}
Blocks: TypeAlias = Callable[[int, int], Iterator[np.ndarray]]


def _is_binary(name: str, number: int, probe: Callable[[int], np.ndarray | None]) -> bool:
    """Whether encoded images are of 0 and 1, black and white, as masks are stored; warns of that and of dark ones.

    The data of a training are recognised likewise, and a run's samples are compared with them.

    Args:
      name: of the set.
      number: how many images it has.
      probe: `place -> uint8 image`, `None` where it cannot be read.
    """
    low, high = 255, 0
    spread = np.unique(np.linspace(0, number - 1, _PROBED).astype(np.int64))
    others = np.setdiff1d(np.arange(number), spread, assume_unique=True)
    for seen, place in enumerate(itertools.chain(spread, others), 1):
        image = probe(int(place))
        if image is not None:
            low, high = min(low, int(image.min())), max(high, int(image.max()))
        if high >= DARK:
            return False
        if high and seen >= len(spread):  # most masks of something rare are black: these tell nothing
            break
    return recognise_bounds(name, np.dtype(np.uint8), True, low, high) == (0.0, 1.0)


def _from_black_to_white(where: str, blocks: Blocks) -> Blocks:
    """The blocks of images of 0 and 1 with 255 in place of 1; raises `DataError` where others are among them."""

    def scaled(start: int, stop: int) -> Iterator[np.ndarray]:
        for block in blocks(start, stop):
            if block.max() > 1:
                raise DataError(
                    f"{where} has images of 0 and 1, which are taken as black and white, and others with values up "
                    f"to {block.max()}: save all in [0, 255]."
                )
            yield block * np.uint8(255)

    return scaled


def _labels(files: _Files, skipped: Collection[str]) -> Labels | None:
    """The labels of a set's images without those that were skipped."""
    encoded = files.labelled()
    names = [name for name in files.openers if printable(name) not in skipped]
    table = encoded.table
    if table is not None and table.labels and (missing := [n for n in names if n not in table]):
        raise DataError(
            f"{table.where!r} has no label of {len(missing)} images, {printable(missing[0])!r} among them."
        )
    classes, numbers = labels_of(encoded, names)
    return None if numbers is None else Labels(numbers, tuple(classes))


def _first(files: _Files, conversion: Conversion, damaged: str) -> tuple[str, np.ndarray]:
    """The first image that can be read, with its name."""
    for file, opener in files.openers.items():
        try:
            with quiet():
                return file, decoded(opener, conversion)
        except DataError as error:
            reason = str(error)
            if damaged == "refuse":
                raise _unreadable(files.where, file, reason) from error
    raise DataError(
        f"{files.where} has {len(files.openers)} images, and none of them can be read ({reason})."
    )


def _unreadable(where: str, file: str, reason: str) -> DataError:
    return DataError(
        f"{where} has an image that cannot be read, {printable(file)} ({reason}): remove or replace it, or give "
        "damaged='skip' (--damaged=skip) to skip and count such images."
    )


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"


# ---------------------------------------------------------------------------------------------------------
# TFDS


def _tfds(spec: str, size: int | None, channels: int | None) -> ImageSet:
    name, _, split = spec.removeprefix("tfds:").partition("@")
    split = split or "train"
    read, number = tfds_images.record_reader(name, split, size=size, channels=channels)
    shape = read(np.arange(1))["x"].shape[1:]
    step = max(1, min(1024, _BLOCK_BYTES // int(np.prod(shape))))
    binary = _is_binary(spec, number, lambda place: read(np.array([place]))["x"][0])

    def blocks(start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, step):
            yield read(np.arange(first, min(first + step, stop)))["x"]

    def labels(skipped: Collection[str]) -> Labels | None:
        builder = tfds_images.prepared_builder(name)
        _, label = tfds_images.image_and_label(builder)
        if label is None:
            return None
        parts = [read(np.arange(first, min(first + step, number))) for first in range(0, number, step)]
        names = builder.info.features[label].names or ()
        return Labels(np.concatenate([part["y"] for part in parts]), tuple(names))

    def content() -> str:
        folder = pathlib.Path(tfds_images.prepared_builder(name).data_dir)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        return f"{folder.resolve()} {listing(folder, files)} {split} {size} {channels}{_OF_CONTENT[binary]}"

    return ImageSet(
        name=spec,
        number=number,
        shape=shape,
        value_range=_RANGES[binary],
        blocks=_from_black_to_white(spec, blocks) if binary else blocks,
        content=content,
        labels=labels,
    )


# ---------------------------------------------------------------------------------------------------------
# Arrays


def from_array(images: np.ndarray, name: str) -> ImageSet:
    """Images in memory, `[N, H, W, C]`: integers in [0, 255], floats in [-1, 1] (or recognised in [0, 1]).

    Raises:
      DataError: for another layout or range, or entries that are not finite.
    """
    given = unmasked(name, images)
    if given.ndim and given.dtype.name == "bfloat16":
        given = given.astype(np.float32)

    def blocks(rows: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        end = len(given) if stop is None else min(stop, len(given))
        return (given[first : min(first + rows, end)] for first in range(start, end, rows))

    def content() -> str:
        total = hashlib.sha256(f"{given.dtype} {given.shape}".encode())
        for block in blocks(256):
            total.update(np.ascontiguousarray(block).data)
        return total.hexdigest()

    return _stored(name, name, given.shape, given.dtype, blocks, content)


def images_in_arrays(arrays: dict[str, ArrayFile], name: str) -> ImageSet:
    """The images among the arrays of a file: those of a name of `NAMES`, or the only array.

    Raises:
      DataError: as `from_array`, and if it is not clear which array holds the images.
    """
    chosen = next((known for known in NAMES if known in arrays), None)
    if chosen is None:
        if len(arrays) != 1:
            raise DataError(
                f"{name!r} has the arrays {', '.join(sorted(arrays)) or 'none'}: name the images one of "
                f"{', '.join(NAMES)}."
            )
        (chosen,) = arrays
    file = arrays[chosen]
    label = f"{name}, array {chosen}" if chosen else name

    def content() -> str:
        return f"{file_digest(file.path)} {chosen}"

    found = _stored(name, label, file.shape, file.dtype, file.blocks, content)
    return dataclasses.replace(found, labels=functools.partial(_stored_labels, arrays, file.shape[0]))


def _stored_labels(arrays: dict[str, ArrayFile], number: int, skipped: Collection[str]) -> Labels | None:
    """The labels beside stored images: `arr_1` of ADM's samples, `y` or `labels`; their names are `classes`.

    Raises:
      DataError: if labels are of classes without a name.
    """
    for name in LABEL_NAMES:
        if name in arrays and arrays[name].shape == (number,) and arrays[name].dtype.kind in "iu":
            numbers, names = arrays[name].read(), arrays.get("classes")
            classes: tuple[str, ...] = ()
            if names is not None and names.dtype.kind == "U" and len(names.shape) == 1:
                classes = tuple(names.read().tolist())
            check_classes(classes, int(numbers.max()), str(arrays[name].path))
            return Labels(numbers, classes)
    return None


def _stored(
    name: str,
    label: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    read: Callable[..., Iterator[np.ndarray]],
    content: Callable[[], str],
) -> ImageSet:
    """A set of images that are stored as numbers, in blocks `read(rows, start, stop)`."""
    if len(shape) < 3 or not shape[0]:
        raise DataError(f"{label!r} has shape {shape}: expected images [N, H, W, C], N > 0.")
    if len(shape) == 3:
        hint = "one image [H, W, C]: take x[None]" if shape[2] in (1, 3) else "grey images: take x[..., None]"
        raise DataError(f"{label!r} has shape {shape}, which may be {hint}; expected images [N, H, W, C].")
    check_layout(label, shape)
    if dtype.kind not in "buif":
        raise DataError(f"{label!r} has dtype {dtype}: expected integers in [0, 255] or floats in [-1, 1].")
    rows = max(1, _BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))
    convert, value_range = _conversion(label, dtype, functools.partial(read, rows))

    def blocks(start: int, stop: int) -> Iterator[np.ndarray]:
        return (convert(block) for block in read(rows, start, stop))

    return ImageSet(
        name=name,
        number=shape[0],
        shape=(shape[1], shape[2], shape[3]),
        value_range=value_range,
        blocks=blocks,
        content=content,
    )


def _conversion(
    label: str, dtype: np.dtype, blocks: Callable[[], Iterator[np.ndarray]]
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """A function from stored numbers to uint8, and a description of the numbers; floats are read once for it."""
    low, high = _bounds(label, blocks())
    if dtype.kind == "f":
        if low < -1 - ROUNDING or high > 1 + ROUNDING:
            raise DataError(
                f"{label!r} holds floats in [{low:.6g}, {high:.6g}]: images are integers in [0, 255], or floats in "
                "[-1, 1] (or in [0, 1], which is recognised). Rescale them, or save them as uint8; of samples of a "
                "network that goes beyond [-1, 1], cut what is beyond: np.clip(x, -1, 1)."
            )
        # Images that were resized, or normalised and back, are beyond the bounds by rounding.
        near = (0.0 if -ROUNDING * high <= low < 0 else low), min(high, 1.0)
        if recognise_bounds(label, dtype, True, *near) == (0.0, 1.0):
            return lambda x: encode(2 * x.astype(np.float32) - 1), "float [0, 1] rounded to 256 levels"
        return encode, "float [-1, 1] rounded to 256 levels"
    if low < 0 or high > 255:
        raise DataError(
            f"{label!r} holds integers in [{low:g}, {high:g}]: expected grey levels in [0, 255], or floats in "
            "[-1, 1]."
        )
    if recognise_bounds(label, dtype, True, low, high) == (0.0, 1.0):
        return lambda x: x.astype(np.uint8) * np.uint8(255), f"{dtype} of 0 and 1"
    return lambda x: x.astype(np.uint8), "uint8 [0, 255]"


def _bounds(label: str, blocks: Iterator[np.ndarray]) -> tuple[float, float]:
    low, high, passed = np.inf, -np.inf, 0
    for block in blocks:
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            bad = np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))
            others = (
                f", and so do {len(bad) - 1} of the next {len(block) - bad[0] - 1}" if len(bad) > 1 else ""
            )
            raise DataError(
                f"Image {passed + bad[0]} of {label!r} holds NaN or infinity{others}: leave such images out, or "
                "find out what made them."
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        passed += len(block)
    return low, high
