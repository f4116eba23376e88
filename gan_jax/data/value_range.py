"""Which values of stored images are black and which are white, and what is done where nobody says so.

Networks see images in [-1, 1]. uint8 in [0, 255] and floats in [-1, 1] are the standard ranges, which are kept as
they are; what looks like another range is recognised, with a warning in one line that names the range found.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from gan_jax.data.errors import DataError

ValueRange: TypeAlias = tuple[float, float] | Literal["standard"] | None
"""The values of black and white; `standard` for [0, 255] in integers and [-1, 1] in floats; `None` recognises."""
STANDARD: Literal["standard"] = "standard"
DARK = 32
"""Integer images whose values are all below this are nearly black in [0, 255]."""
ROUNDING = 1e-3
"""How far float images in [0, 1] may be beyond it that were resized, or normalised and back, of their brightest."""
_HINT = "value_range=(low, high) names the values of black and white, value_range='standard' keeps them"


def parse_range(text: str) -> ValueRange:
    """A range as it is written on a command line.

    Args:
      text: `low,high`; `standard`; nothing, to recognise it.

    Raises:
      DataError: for anything else.

    >>> parse_range("0,1"), parse_range("standard"), parse_range("")
    ((0.0, 1.0), 'standard', None)
    """
    if not text:
        return None
    if text == STANDARD:
        return STANDARD
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(
            f"value_range is 'low,high' as in '0,1', 'standard', or nothing; got {text!r}."
        ) from error
    return check_range((low, high))


def check_range(value_range: ValueRange) -> ValueRange:
    """The range, if it is one.

    Raises:
      DataError: if it is neither `None`, `standard`, nor two finite numbers in ascending order.
    """
    if value_range is None or value_range == STANDARD:
        return value_range
    try:
        low, high = (float(bound) for bound in value_range)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(
            f"value_range is (low, high) with low < high, 'standard' or None; got {value_range!r}."
        )
    return low, high


def recognise(name: str, array: np.ndarray) -> ValueRange:
    """What the values of an array of finite numbers are taken for, `standard` or a range, with a warning in one
    line where they look like another than the standard range.

    Integer images of 0 and 1 and float images in [0, 1] are taken for [0, 1]. Other dark integer images, and
    integer vectors that are not uint8, are taken for pixels in [0, 255].

    Args:
      name: of the array, for the warning.
      array: `[N, ...]`, integers or floats.
    """
    is_image = array.ndim >= 3
    # uint8 vectors are pixels by their type, and floats are numbers.
    if not array.size or (not is_image and (array.dtype == np.uint8 or array.dtype.kind == "f")):
        return STANDARD
    return recognise_bounds(name, array.dtype, is_image, array.min(), array.max())


def recognise_bounds(name: str, dtype: np.dtype, is_image: bool, low: float, high: float) -> ValueRange:
    """What `recognise` takes numbers of a dtype for whose smallest is `low` and whose largest is `high`."""
    found = f"{name!r} has values in [{low:g}, {high:g}]"
    if dtype.kind == "f":
        if -ROUNDING * high <= low < 0 < high <= 1 + ROUNDING:
            raise DataError(
                f"{found}: if images in [0, 1] are below 0 by rounding, clip them to it; {_HINT}."
            )
        if 0 <= low < high <= 1:
            _warn(f"{found}: float images in [0, 1] are brought to [-1, 1]; {_HINT}.")
            return 0.0, 1.0
        return STANDARD
    if is_image and low == 0 and high == 1:
        _warn(f"{found}: integer images of 0 and 1 are taken as black and white; {_HINT}.")
        return 0.0, 1.0
    if is_image and low >= 0 and 1 < high < DARK:
        _warn(f"{found}: integer images are pixels in [0, 255], these are nearly black; {_HINT}.")
    elif not is_image and low >= 0 and high <= 255:
        _warn(
            f"{found}: integer vectors are taken as pixels in [0, 255] and brought to [-1, 1]; give floats to keep "
            f"the numbers; {_HINT}."
        )
    return STANDARD


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def in_standard_range(name: str, array: np.ndarray, low: float, high: float) -> np.ndarray:
    """An array whose black is `low` and whose white is `high`, in the standard range of its kind: integers of at
    most 256 levels as uint8, others as float32.

    Raises:
      DataError: if values lie outside.

    >>> in_standard_range("x", np.array([0, 4, 16]), 0, 16).tolist()
    [0, 64, 255]
    >>> in_standard_range("x", np.array([0.0, 0.25, 1.0]), 0, 1).tolist()
    [-1.0, -0.5, 1.0]
    """
    if array.size and (array.min() < low or array.max() > high):
        raise DataError(
            f"{name!r} has values in [{array.min():g}, {array.max():g}], which value_range=({low:g}, {high:g}) "
            "does not hold: give the range that the data have."
        )
    if array.dtype.kind in "ui" and high - low <= 255:
        return np.round((array.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    if (low, high) == (-1, 1):
        return array.astype(np.float32)
    scaled = (array.astype(np.float64) - low) * (2 / (high - low)) - 1
    return np.clip(scaled, -1, 1).astype(np.float32)


def as_float32(name: str, array: np.ndarray) -> np.ndarray:
    """Finite numbers as float32.

    Raises:
      DataError: if some are beyond its range.
    """
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if array.dtype.itemsize > floats.dtype.itemsize and not np.all(np.isfinite(floats)):
        raise DataError(
            f"{name!r} has numbers of magnitude up to {np.max(np.abs(array)):.3g}, beyond the range of float32: "
            "scale it down first."
        )
    return floats


def check_rounding(arrays: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray]) -> None:
    """Checks that float32 tells the examples of wider floats from each other, in every number that differs at all.

    Args:
      arrays: whole data as given; of a part of them the spread would say little.
      kept: the same as `check_arrays` returns them.

    Raises:
      DataError: if rounding changes the differences between examples.
    """
    for name, floats in kept.items():
        given = np.asarray(arrays[name])
        if given.dtype.kind != "f" or given.dtype.itemsize <= floats.dtype.itemsize or given.ndim > 2:
            continue
        spread = given.max(axis=0) - given.min(axis=0)
        if np.any((np.abs(given - floats).max(axis=0) > 1e-3 * spread) & (spread > 0)):
            raise DataError(
                f"{name!r} has {given.dtype} numbers that differ by less than float32 represents: subtract a "
                "common offset, or scale it up, first."
            )


def check_layout(name: str, shape: tuple[int, ...], where: str = "", channels: int | None = None) -> None:
    """Checks that examples `[N, ...]` of one array are vectors, or images `[N, H, W, C]` that can be drawn.

    Args:
      name: of the array.
      shape: of it.
      where: the data's name, of which any number of channels may be asked for; empty for a set that is compared.
      channels: the number of channels that is asked for; `None` allows 1 and 3.

    Raises:
      DataError: for images without pixels, with channels in front, with another number of channels, or more axes.
    """
    owner = f" of {where}" if where else ""
    shown = f"{name!r}{owner} has shape [{', '.join(map(str, shape))}]"
    if 0 in shape[1:]:
        raise DataError(f"{shown}, examples without a value: give images of one pixel or more.")
    if len(shape) > 4:
        raise DataError(
            f"{shown}; images are [N, H, W, C]: choose one frame or slice of each, or reshape to four axes."
        )
    if len(shape) < 4 or shape[3] == channels or (channels is None and shape[3] in (1, 3)):
        return
    if channels is not None:
        raise DataError(f"{shown}, and {channels} channels are asked for: the last axis has {shape[3]}.")
    asking = f", or ask for channels={shape[3]}" if where else ""
    if shape[1] in (1, 3):
        fix = "which looks like [N, C, H, W]: take np.moveaxis(x, 1, 3)"
    elif shape[3] == 4:
        fix = f"which looks like RGBA: take x[..., :3], or lay it on a background{asking}"
    else:
        fix = f"images have 1 or 3 channels: choose or merge some{asking}"
    raise DataError(f"{shown}, {fix}.")
