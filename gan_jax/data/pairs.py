"""Pairs of images A and B for image-to-image games (pix2pix)."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gan_jax.data.encoded import existing_folder
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset, read_folder
from gan_jax.types import Size

DIRECTIONS = ("AtoB", "BtoA")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


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

    In sub-folders a pair has the same path, or the same without its suffix (`A/cat/7.png` and `B/cat/7.jpg`) where
    no other file of its side has that. Without them every file is cut in the middle, as the data sets published
    with pix2pix are.

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
        first, second = (read_folder(root / side, size, labels=False, **options) for side in "AB")
        skipped = {f"A/{n}": why for n, why in first.skipped.items()}
        skipped |= {f"B/{n}": why for n, why in second.skipped.items()}
    else:
        _check_halves(root)
        first, second = (
            read_folder(root, size, part=part, labels=False, **options) for part in ("left", "right")
        )
        skipped = first.skipped | second.skipped
    partners, alone = _partners(first.names, second.names)
    skipped |= alone
    if not partners:
        raise DataError(
            f"No pair in {str(folder)!r}: expected sub-folders A and B whose files have the same names, "
            f"or files with A on the left and B on the right; got {dict(list(skipped.items())[:3])}."
        )
    ours, theirs = (list(rows) for rows in zip(*partners.values(), strict=True))
    a, b = first.arrays["x"][ours], second.arrays["x"][theirs]
    arrays = {"x": b, "condition": a} if direction == "AtoB" else {"x": a, "condition": b}
    return dataclasses.replace(
        first, arrays=arrays, classes=(), names=tuple(partners), skipped=dict(sorted(skipped.items()))
    )


def _check_halves(root: pathlib.Path) -> None:
    """Checks that no sub-folders are sides of pairs under other names: all their images would be cut in the middle.

    The data sets published with CycleGAN have `trainA` and `trainB`.

    Raises:
      DataError: naming the two, and what to do.
    """
    for where, folders, _ in os.walk(root):
        for side in folders:
            apart = len(side) == 1 or side[-1] == "A" or side[-2] in "_- "
            if side[-1] not in "aA" or not apart:
                continue
            other, third = (side[:-1] + chr(ord(side[-1]) + k) for k in (1, 2))
            if other in folders and third not in folders:  # a, b, c, ... are classes
                fix = f"give 'pairs:{where}'" if side == "A" else "rename them A and B"
                raise DataError(
                    f"{where!r} has sub-folders {side} and {other}, whose images would be cut in the middle each: "
                    f"pairs are of sub-folders A and B, or of files with A on the left and B on the right; {fix}."
                )
        first, second, name = _of_one_name(where, folders)
        if name and not _is_wide(os.path.join(where, first, name)):
            raise DataError(
                f"{where!r} has sub-folders {first} and {second} with images of the same names, no wider than "
                "high, which would be cut in the middle each: call sub-folders with the sides of pairs A and B, "
                f"or give one, 'pairs:{os.path.join(where, first)}'."
            )


def _of_one_name(where: str, folders: Sequence[str]) -> tuple[str, str, str]:
    """Two of the folders that have a file of one name, and the name; empty where there are none."""
    found: dict[str, str] = {}
    for folder in sorted(folders):
        try:
            names = sorted(os.listdir(os.path.join(where, folder)))
        except OSError:  # which is said when it is read
            continue
        for name in names:
            if name.lower().endswith(_SUFFIXES) and found.setdefault(name, folder) != folder:
                return found[name], folder, name
    return "", "", ""


def _is_wide(path: str) -> bool:
    """Whether an image is wider than high, or cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.width > image.height
    except Exception:  # which is said when it is read
        return True


def _partners(
    ours: Sequence[str], theirs: Sequence[str]
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """`{name: (row of A, row of B)}` of the pairs, in the order of their names; and why other files are in none.

    >>> _partners(["7.bmp", "7.png", "8.png"], ["7.png", "8.jpg"])
    ({'7': (1, 0), '8': (2, 1)}, {'A/7.bmp': 'has no partner'})
    """
    rows = [{name: row for row, name in enumerate(names)} for names in (ours, theirs)]
    pairs = [(name, name) for name in ours if name in rows[1]]
    others = [_by_stem(set(rows[side]) - set(rows[1 - side])) for side in (0, 1)]
    skipped: dict[str, str] = {}
    for side, (here, there) in {"A": others, "B": others[::-1]}.items():
        for stem, names in here.items():
            if len(names) > 1:
                skipped |= {f"{side}/{name}": f"is one of {len(names)} files named {stem}" for name in names}
            elif len(there.get(stem, ())) != 1:
                skipped[f"{side}/{names[0]}"] = "has no partner"
            elif side == "A":
                pairs.append((names[0], there[stem][0]))
    pairs.sort(key=lambda pair: (_stem(pair[0]), pair[0]))
    stems = collections.Counter(_stem(name) for name, _ in pairs)
    whole = {name for name, _ in pairs}

    def called(name: str) -> str:
        """The stem, unless it stands for other files too, or is another's whole name (`7.png.jpg`, `7.png`)."""
        stem = _stem(name)
        return stem if stems[stem] == 1 and stem not in whole else name

    return {called(a): (rows[0][a], rows[1][b]) for a, b in pairs}, skipped


def _by_stem(names: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_stem(name), []).append(name)
    return found


def _stem(name: str) -> str:
    """A path without its file's suffix.

    >>> _stem("v1.0/7.png"), _stem("v1.0/7")
    ('v1.0/7', 'v1.0/7')
    """
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
