"""Grids of images as uint8 arrays, made with numpy and Pillow on the host.

Arguments may be anything that `numpy.asarray` accepts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Picture: TypeAlias = np.ndarray
"""A uint8 array `[H, W, C]`, C 1 or 3."""
CAPTION = 16
"""Pixels of the strip with the names of the columns."""


def to_uint8(images: Any) -> np.ndarray:
    """Rescales values in [-1, 1] to 0 .. 255, rounded; others are clipped, and NaN becomes mid-grey.

    What is uint8 is taken to be in 0 .. 255 already.

    Raises:
      ValueError: for other integers and booleans, which may be of either range.

    >>> to_uint8([-1.0, 0.0, 1.0, 7.0, float("nan")])
    array([  0, 128, 255, 255, 128], dtype=uint8)
    >>> to_uint8(np.array([0, 10, 255], np.uint8))
    array([  0,  10, 255], dtype=uint8)
    """
    given = _known_range(images)
    if given.dtype == np.uint8:
        return given.copy()
    values = np.nan_to_num(given.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.floor((np.clip(values, -1.0, 1.0) + 1.0) * 127.5 + 0.5).astype(np.uint8)


def _known_range(images: Any) -> np.ndarray:
    """Images as an array, uint8 or floats.

    Raises:
      ValueError: for other integers and booleans.
    """
    given = np.asarray(images)
    if given.dtype.kind in "iub" and given.dtype != np.uint8:
        raise ValueError(
            f"Images are uint8 or floats in [-1, 1], got {given.dtype}: give x.astype(numpy.uint8) of levels in "
            "0 .. 255, or 2.0 * x - 1 of what is 0 or 1."
        )
    return given


def image_grid(
    images: Any,
    columns: int | None = None,
    *,
    gap: int = 1,
    scale: int = 1,
    smooth: bool = False,
    captions: Sequence[str] = (),
) -> Picture:
    """Arranges images row by row in a grid on a white background.

    Of images with transparency (2 or 4 channels) what is transparent is white; of more channels the first three are
    shown.

    >>> image_grid(np.zeros((5, 8, 8, 1)), columns=3).shape
    (17, 26, 1)

    Args:
      images: `[N, H, W, C]` uint8, or floats in [-1, 1].
      columns: images in a row; by default the least number for which the grid has no more rows than columns.
      gap: white pixels between images.
      scale: every pixel is drawn as a square of `scale` by `scale`.
      smooth: enlarge by bicubic interpolation instead, which makes small digits easier to read.
      captions: a name for each column, written above it and cut to its width; none by default.

    Returns:
      uint8 `[rows (H scale + gap) - gap, columns (W scale + gap) - gap, 1 or 3]`; captions add `CAPTION` rows.

    Raises:
      ValueError: if `images` has another shape or is of other integers or booleans, or a number is out of range.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[0] < 1 or images.shape[-1] < 1:
        raise ValueError(f"A grid needs images [N, H, W, C] with N >= 1 and C >= 1, got {images.shape}.")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1 or gap < 0 or scale < 1:
        raise ValueError(
            f"A grid needs columns >= 1, gap >= 0 and scale >= 1, got columns={columns}, gap={gap}, scale={scale}."
        )
    tiles = to_uint8(opaque(images))
    tiles = _enlarged(tiles, scale) if smooth else tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    cells[:count, :height, :width] = tiles
    grid = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + gap), columns * (width + gap), channels)
    grid = grid[: grid.shape[0] - gap, : grid.shape[1] - gap]
    return np.concatenate([_captions(captions, grid.shape, width + gap), grid]) if captions else grid


def _captions(names: Sequence[str], shape: tuple[int, ...], pitch: int) -> Picture:
    """A strip `[CAPTION, W, C]` with a name above each column, cut where the next begins."""
    strip = Image.new("L", (shape[1], CAPTION), 255)
    for column, name in enumerate(names):
        cell = Image.new("L", (pitch, CAPTION), 255)
        ImageDraw.Draw(cell).text((1, 1), name, fill=0, font=ImageFont.load_default(CAPTION - 5))
        strip.paste(cell, (column * pitch, 0))
    return np.repeat(np.asarray(strip)[..., None], shape[2], axis=2)


def opaque(images: Any) -> np.ndarray:
    """Images `[..., C]`, uint8 or in [-1, 1], as they are shown, with 1 or 3 channels; of its dtype or floats.

    Raises:
      ValueError: for other integers and booleans.

    >>> opaque([[0.5, -1.0], [0.5, 0.0], [0.5, 1.0]]).tolist()  # grey with 0, 0.5 and 1 of opacity, on white
    [[1.0], [0.75], [0.5]]
    """
    values = _known_range(images)
    channels = values.shape[-1]
    if channels in (1, 3):
        return values
    if channels > 4:
        return values[..., :3]
    if values.dtype == np.uint8:
        values = values / np.float32(127.5) - 1
    colour, opacity = values[..., :-1], (values[..., -1:] + 1) / 2
    return opacity * colour + (1 - opacity)


def _enlarged(tiles: np.ndarray, scale: int) -> np.ndarray:
    _, height, width, _ = tiles.shape
    size = (width * scale, height * scale)
    planes = [
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in tile]
        for tile in tiles.transpose(0, 3, 1, 2)
    ]
    return np.asarray(planes).transpose(0, 2, 3, 1)


def side_by_side(pictures: Sequence[Picture], gap: int = 8, captions: Sequence[str] = ()) -> Picture:
    """Pictures in a row, on white.

    >>> side_by_side([np.zeros((5, 4, 1), np.uint8), np.zeros((6, 3, 3), np.uint8)], gap=2).shape
    (6, 9, 3)

    Args:
      pictures: uint8 `[H, W, C]`, C 1 or 3.
      gap: white pixels between two.
      captions: a name for each, written above it and cut to its width; none by default.

    Raises:
      ValueError: if one is of another dtype or shape.
    """
    for picture in pictures:
        check_picture(picture)
    if captions:
        strips = [
            _captions([name], picture.shape, picture.shape[1])
            for name, picture in zip(captions, pictures, strict=True)
        ]
        pictures = [np.concatenate(pair) for pair in zip(strips, pictures, strict=True)]
    height, channels = (max(picture.shape[axis] for picture in pictures) for axis in (0, 2))
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    row, left = np.full((height, width, channels), 255, np.uint8), 0
    for picture in pictures:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return row


def check_picture(picture: Any) -> None:
    """Checks a picture.

    Raises:
      ValueError: if it is not uint8 `[H, W, C]` with C 1 or 3.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise ValueError(
            f"A picture must be uint8 [H, W, C] with C 1 or 3, got {picture.dtype} {picture.shape}."
        )


def to_png(picture: Picture) -> bytes:
    """Encodes a picture as PNG.

    Raises:
      ValueError: if it is not uint8 `[H, W, C]` with C 1 or 3.
    """
    picture = np.asarray(picture)
    check_picture(picture)
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, "PNG")
    return file.getvalue()
