"""Images from folders: any format that Pillow reads, cropped and resized once, and kept.

What cannot be read is skipped, counted and named; nothing outside the folder is opened.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import itertools
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gan_jax.data.cache import Stored, Write, cached
from gan_jax.data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**26
"""Larger images are skipped: a small file can unpack to gigabytes."""
METHODS = ("lanczos", "bicubic", "bilinear", "box", "nearest")
"""How images are resized; all but `nearest` average over what they shrink."""
PARTS = ("whole", "left", "right")
ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
"""Where Pillow keeps metadata that may say how an image is turned."""
_CHUNK, _PART = 1024, 32

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """How an image of any kind becomes `[size, size, channels]` uint8.

    It is laid on white where it is transparent, turned as its EXIF or XMP data say, cropped at the centre to a
    square, and resized; 16 bits are brought to 8.

    Attributes:
      size: height and width; `None` leaves them.
      channels: 1 (grey) or 3.
      method: one of `METHODS`.
      max_pixels: larger images are refused.
      part: `whole`, or the `left` or `right` half of two images side by side.

    Raises:
      DataError: if a field is out of range.
    """

    size: int | None
    channels: int
    method: str = "lanczos"
    max_pixels: int = MAX_PIXELS
    part: str = "whole"

    def __post_init__(self) -> None:
        if (
            (self.size is not None and self.size < 1)
            or self.channels not in (1, 3)
            or self.method not in METHODS
        ):
            raise DataError(
                f"Images are read with size >= 1, channels 1 or 3 and a method of {METHODS}; got {self}."
            )

    def record(self) -> dict[str, Any]:
        """The conversion as JSON, with Pillow's version: resizing differs between versions."""
        import PIL

        return {**dataclasses.asdict(self), "crop": "center", "pillow": PIL.__version__}

    def __call__(self, file: pathlib.Path | IO[bytes]) -> np.ndarray:
        """The image in `file` as `[H, W, C]` uint8.

        Raises:
          DataError: saying why it cannot be read.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(file) as image:
                if image.width * image.height > self.max_pixels:
                    raise DataError(f"{image.width} x {image.height} pixels are more than {self.max_pixels}")
                image.load()
                upright = _in_mode(to_eight_bits(image), "L" if self.channels == 1 else "RGB")
                if self.part != "whole":
                    upright = half(upright, self.part)
                array = np.asarray(upright if self.size is None else square(upright, self.size, self.method))
        except DataError:
            raise
        except UnidentifiedImageError as error:
            raise DataError("not an image") from error
        except Exception as error:  # Pillow's decoders raise whatever a broken file makes them run into.
            raise DataError(f"damaged: {error}") from error
        return array[..., None] if array.ndim == 2 else array


def to_eight_bits(image: Image.Image) -> Image.Image:
    """A Pillow image upright, in mode L or RGB: transparency laid on white, 16 bits brought to 8."""
    from PIL import Image, ImageOps

    if not ORIENTED.isdisjoint(image.info) or image.format == "TIFF":
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit values are not supported")
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels are not supported")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _in_mode(image, "L" if image.mode in ("1", "L", "LA") else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # Pillow copies an image that is in its mode already.
    return image if image.mode == mode else image.convert(mode)


def square(image: Image.Image, size: int, method: str) -> Image.Image:
    """A Pillow image cropped at the centre to a square and resized to `size` x `size`."""
    from PIL import Image

    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling[method.upper()], box=box)


def half(image: Image.Image, part: str) -> Image.Image:
    """The `left` or `right` half of a Pillow image."""
    middle = image.width // 2
    if image.width % 2 or not middle:
        raise ValueError(f"a width of {image.width} has no two halves")
    return image.crop(
        (0, 0, middle, image.height) if part == "left" else (middle, 0, image.width, image.height)
    )


def is_color(file: pathlib.Path | IO[bytes]) -> bool:
    """Whether an image has colours, by its header alone; false for what is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode not in ("1", "L", "LA") and not image.mode.startswith("I")
    except Exception:  # Said with its reason when it is read.
        return False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder:
    """What was read from a folder.

    Attributes:
      arrays: `x [N, size, size, C]` uint8, in the order of the names; `y [N]` where there are sub-folders.
      classes: the sub-folders' names; label k is `classes[k]`.
      names: the files, in the order of the arrays.
      skipped: `{file: reason}` for every file that was not read.
      record: how the images were made: size, crop, resize method, Pillow's version.
    """

    arrays: dict[str, np.ndarray]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: dict[str, str]
    record: dict[str, Any]

    def warn(self, folder: str | pathlib.Path, at_most: int = 5) -> None:
        """Logs one line if files were skipped: how many, and the first of them with their reasons."""
        if self.skipped:
            first = itertools.islice(self.skipped.items(), at_most)
            named = ", ".join(f"{printable(name)} ({why})" for name, why in first)
            more = ", ..." if len(self.skipped) > at_most else ""
            total = len(self.skipped) + len(self.arrays["x"])
            _log.warning("Skipped %d of %d files in %s: %s%s", len(self.skipped), total, folder, named, more)


def load_images(folder: str | pathlib.Path, size: int, **options: Any) -> dict[str, np.ndarray]:
    """The arrays of `read_folder`; what was skipped is logged in one line.

    Raises:
      DataError: as `read_folder`.
    """
    read = read_folder(folder, size, **options)
    read.warn(folder)
    return read.arrays


def read_folder(
    folder: str | pathlib.Path,
    size: int,
    *,
    channels: int | None = None,
    method: str = "lanczos",
    max_pixels: int = MAX_PIXELS,
    part: str = "whole",
    use_cache: bool = True,
    memory_map: bool = False,
) -> ImageFolder:
    """Every image under `folder` as `Conversion` makes it, from the cache unless a file has changed.

    Args:
      folder: images, or sub-folders of images: the first folder of a path is the class.
      size: height and width of the result.
      channels: 1 (grey) or 3; if `None`, 1 where every image is grey.
      method: one of `METHODS`.
      max_pixels: larger images are skipped.
      part: `whole`, or the `left` or `right` half of every file.
      use_cache: whether the result is kept on disk.
      memory_map: leave the arrays on disk, for folders larger than the memory.

    Raises:
      DataError: if there is no such folder, no image in it can be read, images lie both beside and inside
        sub-folders, or an argument is out of range.
    """
    root = existing_folder(folder)
    files, links = find_files(root)
    if channels is None:
        with quiet():
            channels = 3 if any(is_color(root / name) for name in files) else 1
    conversion = Conversion(size=size, channels=channels, method=method, max_pixels=max_pixels, part=part)

    def build(write: Write) -> dict[str, Any]:
        names: list[str] = []

        def keep(read: list[str], arrays: np.ndarray) -> None:
            names.extend(read)
            write("x", arrays)

        skipped = links | dict(convert_all(files, lambda name: conversion(root / name), keep))
        if not names:
            raise DataError(f"No image in {str(folder)!r} can be read: {_first(skipped)}.")
        classes, labels = _labels(folder, names)
        if classes:
            write("y", labels)
        return {"classes": classes, "names": names, "skipped": dict(sorted(skipped.items()))}

    key = {"folder": str(root), "files": listing(root, files), "links": links, "made": conversion.record()}
    stored = cached(key, build, use_cache=use_cache, memory_map=memory_map)
    return image_folder(stored, conversion)


def image_folder(stored: Stored, conversion: Conversion) -> ImageFolder:
    """What the cache holds of a folder, by its parts."""
    return ImageFolder(
        arrays=stored.arrays,
        classes=tuple(stored.record["classes"]),
        names=tuple(stored.record["names"]),
        skipped=stored.record["skipped"],
        record=conversion.record(),
    )


def _first(skipped: dict[str, str], at_most: int = 3) -> str:
    if not skipped:
        return "it holds no files"
    first = itertools.islice(skipped.items(), at_most)
    named = "; ".join(f"{printable(name)}: {why}" for name, why in first)
    return f"{len(skipped)} files skipped ({named})"


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
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                skipped[relative] = "a link that leads out of the folder"
            elif not path.is_file():
                skipped[relative] = "a link to a folder or to nothing, or not a regular file"
            else:
                files.append(relative)
    return sorted(files), skipped


def printable(name: str) -> str:
    """A file's name for a message: bytes that are not UTF-8 are escaped.

    >>> printable("caf\\udce9.png")
    'caf\\\\xe9.png'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
        if good:
            write([item for item, _ in good], np.stack([array for _, array in good]))
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings."""
    # Pillow warns of bombs and of odd metadata; max_pixels decides, and what can be read is data.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _labels(folder: str | pathlib.Path, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    owners = [name.split("/")[0] if "/" in name else None for name in names]
    classes = sorted({owner for owner in owners if owner is not None})
    if classes and None in owners:
        raise DataError(
            f"{str(folder)!r} has {owners.count(None)} images beside its sub-folders {classes[:5]}: labels come "
            "from sub-folders, so put every image into one, or none."
        )
    place = {owner: label for label, owner in enumerate(classes)}
    return classes, np.array([place[owner] for owner in owners if owner is not None], np.int32)


def decode_bytes(encoded: bytes, conversion: Conversion) -> np.ndarray:
    """An encoded image (PNG, JPEG, ...) as `[H, W, C]` uint8.

    Raises:
      DataError: saying why it cannot be read.
    """
    return conversion(io.BytesIO(encoded))
