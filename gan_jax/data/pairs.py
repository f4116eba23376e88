"""Pairs of images A and B for image-to-image games (pix2pix)."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from gan_jax.data.encoded import existing_folder
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset, read_folder
from gan_jax.types import Size

DIRECTIONS = ("AtoB", "BtoA")


def load_pairs(
    folder: str | pathlib.Path, size: Size, *, direction: str = "AtoB", **options: Any
) -> dict[str, np.ndarray]:
    """The pairs of `read_pairs`; what was skipped is logged in one line.

    Raises:
      DataError: as `read_pairs`.
    """
    read = read_pairs(folder, size, direction=direction, **options)
    read.warn(folder)
    return read.arrays


def read_pairs(folder: str | pathlib.Path, size: Size, *, direction: str = "AtoB", **options: Any) -> Dataset:
    """Pairs from sub-folders `A` and `B`, or from files that show A on the left and B on the right.

    In sub-folders a pair has the same path without its suffix (`A/cat/7.png` and `B/cat/7.jpg`). Without them every
    file is cut in the middle, as the data sets published with pix2pix are.

    Args:
      folder: where the pairs are.
      size: the side of each image, or (height, width).
      direction: `AtoB` generates B from A, `BtoA` the other way.
      **options: as in `read_folder`.

    Returns:
      `x`, what is generated, and `condition`, what it is generated from; files without a partner are skipped.

    Raises:
      DataError: if no pair can be read, or an argument is out of range.

    References:
      Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017 (arXiv:1611.07004).
    """
    if direction not in DIRECTIONS:
        raise DataError(f"The direction of pairs is one of {DIRECTIONS}, got {direction!r}.")
    root = existing_folder(folder)
    if (root / "A").is_dir() and (root / "B").is_dir():
        first, second = (read_folder(root / side, size, **options) for side in "AB")
        skipped = {f"A/{n}": why for n, why in first.skipped.items()}
        skipped |= {f"B/{n}": why for n, why in second.skipped.items()}
    else:
        first, second = (read_folder(root, size, part=part, **options) for part in ("left", "right"))
        skipped = first.skipped | second.skipped
    ours, theirs = ({_stem(name): k for k, name in enumerate(read.names)} for read in (first, second))
    paired = sorted(set(ours) & set(theirs))
    for side, read, other in (("A", first, theirs), ("B", second, ours)):
        skipped |= {f"{side}/{n}": "has no partner" for n in read.names if _stem(n) not in other}
    if not paired:
        raise DataError(
            f"No pair in {str(folder)!r}: expected sub-folders A and B whose files have the same names, "
            f"or files with A on the left and B on the right; got {dict(list(skipped.items())[:3])}."
        )
    a = first.arrays["x"][[ours[stem] for stem in paired]]
    b = second.arrays["x"][[theirs[stem] for stem in paired]]
    arrays = {"x": b, "condition": a} if direction == "AtoB" else {"x": a, "condition": b}
    return dataclasses.replace(
        first, arrays=arrays, classes=(), names=tuple(paired), skipped=dict(sorted(skipped.items()))
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
