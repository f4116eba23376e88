"""Checks of a metric's inputs, with errors that name what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.functional.options import check_unmasked

_ROUNDING = 1e-3
"""The tolerance for float images beyond [-1, 1]."""
Matrix = np.ndarray
"""A float array `[N, D]` on the host."""


def as_samples(
    samples: ArrayLike, name: str, *, at_least: int = 1, dtype: type | None = np.float64
) -> Matrix:
    """Converts `samples` to a finite float array `[N, D]`; axes beyond the first are flattened.

    Args:
      samples: `[N, ...]`; a vector `[N]` is N samples of one dimension.
      name: the name of the samples in errors.
      at_least: the number of samples that the metric needs.
      dtype: the dtype of the result; `None` is float32 if it represents all numbers of the input's dtype, and
        otherwise float64.

    Raises:
      ValueError: if there are too few samples, no axis, NaN or infinity, or entries that the dtype cannot
        represent.
    """
    check_unmasked(name, samples)
    given = np.asarray(samples)
    if given.ndim == 0:
        raise ValueError(f"{name}: expected samples [N, D], got a scalar.")
    if given.dtype.kind not in "fiub" and given.dtype.name != "bfloat16":
        raise ValueError(f"{name}: expected real numbers, got dtype {given.dtype}.")
    if len(given) < at_least:
        raise ValueError(
            f"{name}: needs at least {at_least} samples, got {len(given)} (shape {given.shape})."
        )
    flat = as_floats(given.reshape(len(given), -1), name, dtype)
    if flat.shape[1] == 0:
        raise ValueError(f"{name}: samples have no dimension (shape {given.shape}).")
    _check_magnitude(flat, name)
    return flat


def _check_magnitude(samples: Matrix, name: str) -> None:
    """Raises a ValueError where squares and cubes of the numbers would be infinite, or zero, in float64."""
    largest = max(float(samples.max()), -float(samples.min())) if samples.size else 0.0
    if largest and not 1 / LARGEST <= largest <= LARGEST:
        raise ValueError(
            f"{name}: numbers of magnitude up to {largest:.2g}, whose powers float64 cannot represent: divide both "
            "sets by a common scale first."
        )


LARGEST = 1e50
"""The largest number whose powers float64 represents with room to spare."""


def as_floats(given: np.ndarray, name: str, dtype: type | None = None) -> np.ndarray:
    """Converts numbers to finite float32 or float64; integers are kept exactly, floats rounded within their spread.

    Args:
      given: integers, booleans or floats of any width.
      name: the name of the numbers in errors.
      dtype: see `as_samples`.

    Raises:
      ValueError: if entries are not finite, integers are not exact in the dtype, or floats are beyond its range or
        differ by less than it represents.
    """
    if dtype is None:
        exact = given.dtype.name == "bfloat16" or np.can_cast(given.dtype, np.float32)
        dtype = np.float32 if exact else np.float64
    wide = given.dtype.kind in "iu" and given.dtype.itemsize == 8  # numpy considers them safe as float64
    if wide or not (given.dtype.name == "bfloat16" or np.can_cast(given.dtype, dtype)):
        if given.dtype.kind == "f":
            check_finite(given, name)
        _check_holds(np.dtype(dtype), given, name)
    floats: np.ndarray = given.astype(dtype, copy=False)
    check_finite(floats, name)
    if given.dtype.kind == "f" and given.dtype.itemsize > floats.dtype.itemsize:
        _check_rounding(given, floats, name)
    return floats


def _check_rounding(given: np.ndarray, floats: np.ndarray, name: str) -> None:
    """Raises a ValueError where rounding changes the differences between samples."""
    if not len(given):
        return
    error = np.abs(given - floats).max(axis=0)
    spread = given.max(axis=0) - given.min(axis=0)
    if np.any((error > 1e-3 * spread) & (spread > 0)):
        raise ValueError(
            f"{name}: {given.dtype} numbers that differ by less than {floats.dtype} represents: subtract a common "
            "offset first."
        )


def _check_holds(dtype: np.dtype[Any], given: np.ndarray, name: str) -> None:
    """Raises a ValueError if integers would be rounded, or floats would become infinite."""
    if not given.size:
        return
    bounds: Any = given.min(), given.max()
    is_integer = given.dtype.kind in "iu"
    low, high = map(int, bounds) if is_integer else bounds
    most: Any = 2 ** (np.finfo(dtype).nmant + 1) if is_integer else np.finfo(dtype).max
    if max(-low, high) <= most:
        return
    if is_integer:
        raise ValueError(
            f"{name}: integers from {low} to {high}, but {dtype} represents only those up to {most} exactly: "
            "subtract a common offset first."
        )
    size = np.format_float_scientific(max(-low, high), precision=2, trim="-")
    raise ValueError(
        f"{name}: numbers of magnitude up to {size}, beyond the range of {dtype}: scale them down first."
    )


def check_finite(array: Matrix, name: str) -> None:
    """Raises a ValueError that counts the entries that are not finite, and the samples that hold them."""
    # One pass: a finite sum means finite entries; a sum that only overflowed is cleared by the count below.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
        raise ValueError(
            f"{name}: {int(bad.sum())} entries in {len(rows)} of {len(array)} samples are NaN or infinite "
            f"(first: sample {rows[0]}). Look for a diverged generator or a feature extractor that overflows."
        )


def as_pair(
    real: ArrayLike, fake: ArrayLike, *, at_least: int = 1, dtype: type | None = np.float64
) -> tuple[Matrix, Matrix]:
    """Converts both sets of samples as `as_samples` does, and checks that they match.

    Images `[N, H, W, C]` as bytes against images as floats in [-1, 1] are brought to [-1, 1].

    Raises:
      ValueError: as for `as_samples`, and if the sample shapes differ, or one set holds bytes and the other floats
        and they are no images in these ranges.
    """
    check_unmasked("real", real)
    check_unmasked("fake", fake)
    real, fake = _one_range(real, fake), _one_range(fake, real)
    check_same_kind(real, fake)
    first = as_samples(real, "real", at_least=at_least, dtype=dtype)
    second = as_samples(fake, "fake", at_least=at_least, dtype=dtype)
    shapes = np.shape(real)[1:], np.shape(fake)[1:]
    if first.shape[1] != second.shape[1] or (shapes[0] != shapes[1] and len(shapes[0]) == len(shapes[1])):
        raise ValueError(
            f"real and fake differ in a sample's shape: {shapes[0]} against {shapes[1]}. "
            "Compare sets that went through the same resizing and the same extractor."
        )
    return first, second


def _one_range(side: ArrayLike, other: ArrayLike) -> ArrayLike:
    """`side` in [-1, 1] if it holds uint8 images and `other` float images in [-1, 1]; else as it is."""
    ours, theirs = np.asarray(side), np.asarray(other)
    images = all(array.ndim == 4 and array.size and array.shape[3] in (1, 3) for array in (ours, theirs))
    if not images or ours.dtype != np.uint8 or theirs.dtype.kind != "f":
        return side
    low, high = float(theirs.min()), float(theirs.max())
    if -_ROUNDING * high <= low < 0 < high <= 1 + _ROUNDING:
        raise ValueError(
            f"One set is uint8 images and the other floats in [{low:g}, {high:g}], which may be [0, 1] but for "
            "rounding, or [-1, 1]: convert both to the same range first (uint8: x / 255, or x / 127.5 - 1)."
        )
    return ours / np.float32(127.5) - 1 if -1 - _ROUNDING <= low < 0 and high <= 1 + _ROUNDING else side


def check_same_kind(real: ArrayLike, fake: ArrayLike) -> None:
    """Raises a ValueError if one set is integer (images as bytes) and the other is float."""
    kinds = np.asarray(real).dtype, np.asarray(fake).dtype
    if (kinds[0].kind in "iub") != (kinds[1].kind in "iub"):
        raise ValueError(
            f"real has dtype {kinds[0]} and fake has dtype {kinds[1]}: bytes in [0, 255] and floats (such as those "
            "in [-1, 1]) have different scales. Convert both to the same range first (uint8: x / 127.5 - 1)."
        )
