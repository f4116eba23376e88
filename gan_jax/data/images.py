"""Images from folders: any format that Pillow reads, cropped and resized once.

What cannot be read is skipped, counted and named; nothing outside the folder is opened.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**26
"""Larger images are skipped: a small file can unpack to gigabytes."""
RESIZE_METHODS = ("lanczos", "bicubic", "bilinear", "box", "nearest")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder:
    """What was read from a folder.

    Attributes:
      arrays: `x [N, size, size, C]` uint8, in the order of the names; `y [N]` where there are sub-folders.
      classes: the sub-folders' names; label k is `classes[k]`.
      skipped: `{file: reason}` for every file that was not read.
      record: how the images were made: size, crop, resize method, Pillow's version.
    """

    arrays: dict[str, np.ndarray]
    classes: tuple[str, ...]
    skipped: dict[str, str]
    record: dict[str, object]


def load_images(folder: str | pathlib.Path, size: int, **options: object) -> dict[str, np.ndarray]:
    """The arrays of `read_folder`; what was skipped is logged as one warning.

    Raises:
      DataError: as `read_folder`.
    """
    read = read_folder(folder, size, **options)  # type: ignore[arg-type]
    if read.skipped:
        _log.warning("%s", describe_skipped(folder, read))
    return read.arrays


def describe_skipped(folder: str | pathlib.Path, read: ImageFolder, at_most: int = 5) -> str:
    """One line: how many files of a folder were skipped, and the first of them with their reasons."""
    named = ", ".join(f"{name} ({why})" for name, why in list(read.skipped.items())[:at_most])
    more = ", ..." if len(read.skipped) > at_most else ""
    total = len(read.skipped) + len(read.arrays["x"])
    return f"Skipped {len(read.skipped)} of {total} files in {str(folder)!r}: {named}{more}"


def read_folder(
    folder: str | pathlib.Path,
    size: int,
    *,
    channels: int | None = None,
    method: str = "lanczos",
    max_pixels: int = MAX_PIXELS,
) -> ImageFolder:
    """Every image under `folder`, cropped at the centre to a square and resized.

    Transparent pixels are laid on white, photographs are turned as their EXIF data say, and 16-bit images are
    brought to 8 bits.

    Args:
      folder: images, or sub-folders of images: the first folder of a path is the class.
      size: height and width of the result.
      channels: 1 (grey) or 3; if `None`, 1 where every image is grey.
      method: one of `RESIZE_METHODS`.
      max_pixels: larger images are skipped.

    Raises:
      DataError: if there is no such folder, no image in it can be read, images lie both beside and inside
        sub-folders, or an argument is out of range.
    """
    root = _existing(folder)
    if size < 1 or channels not in (None, 1, 3) or method not in RESIZE_METHODS:
        raise DataError(
            f"Images are read with size >= 1, channels 1, 3 or None, method one of {RESIZE_METHODS}; "
            f"got size={size}, channels={channels}, method={method!r}."
        )
    files, skipped = find_files(root)
    read, unreadable = _read_all(root, files, size, method, max_pixels)
    skipped |= unreadable
    if not read:
        first = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise DataError(
            f"No image in {str(folder)!r} can be read ({len(skipped)} files skipped: {first or 'none'})."
        )
    if channels is None:
        channels = 1 if all(image.ndim == 2 for image in read.values()) else 3
    arrays = {"x": np.stack([_with_channels(image, channels) for image in read.values()])}
    classes, labels = _labels(folder, read)
    if classes:
        arrays["y"] = labels
    return ImageFolder(
        arrays=arrays, classes=classes, skipped=dict(sorted(skipped.items())), record=_record(size, method)
    )


def _existing(folder: str | pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(
            f"There is no folder {str(folder)!r}: expected a folder of images or of sub-folders of images."
        )
    return path.resolve()


def find_files(root: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """Files under `root` as sorted relative POSIX paths, and `{name: reason}` for links not followed.

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


def _read_all(
    root: pathlib.Path, files: Iterable[str], size: int, method: str, max_pixels: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    def read(name: str) -> np.ndarray | str:
        return _read_image(root / name, size, method, max_pixels)

    files = list(files)
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # Pillow warns of bombs and of odd metadata; the limit below decides, and a readable image is data.
        warnings.simplefilter("ignore")
        results = dict(zip(files, pool.map(read, files), strict=True))
    images = {name: image for name, image in results.items() if not isinstance(image, str)}
    return images, {name: why for name, why in results.items() if isinstance(why, str)}


def _read_image(path: pathlib.Path, size: int, method: str, max_pixels: int) -> np.ndarray | str:
    """`[size, size]` or `[size, size, 3]` uint8, or the reason why there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                return f"{image.width} x {image.height} pixels, more than {max_pixels}"
            image.load()
            return np.asarray(square(to_eight_bits(image), size, method))
    except UnidentifiedImageError:
        return "not an image"
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them run into.
        return f"damaged: {error}"


def to_eight_bits(image: Image.Image) -> Image.Image:
    """A Pillow image upright, in mode L or RGB: transparency laid on white, 16 bits brought to 8."""
    from PIL import Image, ImageOps

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
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def square(image: Image.Image, size: int, method: str) -> Image.Image:
    """A Pillow image cropped at the centre to a square and resized to `size` x `size`."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size == (size, size):
        return image
    return image.resize(
        (size, size),
        Image.Resampling[method.upper()],
        box=(left, top, left + side, top + side),
        reducing_gap=None,
    )


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.ndim == 2:
        return np.repeat(image[..., None], channels, axis=-1)
    if channels == 3:
        return image
    # ITU-R 601-2, as Pillow's own conversion to L.
    return np.round(image @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)


def _labels(folder: str | pathlib.Path, files: Iterable[str]) -> tuple[tuple[str, ...], np.ndarray]:
    owners = [name.split("/")[0] if "/" in name else None for name in files]
    classes = sorted({owner for owner in owners if owner is not None})
    if classes and None in owners:
        raise DataError(
            f"{str(folder)!r} has {owners.count(None)} images beside its sub-folders {classes[:5]}: labels come "
            "from sub-folders, so put every image into one, or none."
        )
    place = {owner: label for label, owner in enumerate(classes)}
    return tuple(classes), np.array([place[owner] for owner in owners if owner is not None], np.int32)


def _record(size: int, method: str) -> dict[str, object]:
    import PIL

    return {"size": size, "crop": "center", "resize": method, "pillow": PIL.__version__}
