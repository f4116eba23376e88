"""What a user gives to compare: images in memory or on disk, and statistics files."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gan_jax.data.array_files import list_arrays
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import NAMES, ImageSet, from_array, open_images

if TYPE_CHECKING:
    from gan_jax.metrics.statistics import Statistics

Given: TypeAlias = "str | pathlib.Path | np.ndarray | ImageSet"
"""A set: its name on disk, an array of images `[N, H, W, C]`, or an opened set."""


class Side(NamedTuple):
    """A set that is compared.

    Attributes:
      name: its name in tables.
      images: its images; `None` where there are only statistics.
      statistics: its statistics; `None` where there are only images. ADM's reference batches have both.
    """

    name: str
    images: ImageSet | None
    statistics: Statistics | None = None


def open_side(given: Given, name: str, **options: Any) -> Side:
    """Opens a set that a user names or holds.

    Args:
      given: a folder, a ZIP, a `.npz` or `.npy` of images, a statistics file, `tfds:NAME@SPLIT`; or the images.
      name: what a set in memory is called.
      **options: `size`, `channels`, `damaged`, see `gan_jax.data.image_sets.open_images`.

    Raises:
      DataError: if it cannot be opened, or has a single image.
    """
    from gan_jax.metrics.statistics import is_statistics, read_statistics

    if isinstance(given, ImageSet):
        return _checked(Side(given.name, given))
    if not isinstance(given, str | pathlib.Path):
        return _checked(Side(name, from_array(np.asanyarray(given), name)))  # from_array sees masks
    path = pathlib.Path(given).expanduser()
    if path.suffix == ".pkl":
        read_statistics(path)
    if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
        raise DataError(
            f"{str(given)!r} is the work directory of a run, whose samples are drawn by its code: compare it by "
            "launch.py --mode=compare, or draw samples by gan_jax.sample and give these."
        )
    if not is_statistics(path):
        return _checked(Side(str(given), open_images(given, **options)))
    has_images = any(known in list_arrays(path) for known in NAMES)
    images = open_images(given, **options) if has_images else None
    return _checked(Side(str(given), images, read_statistics(path)))


def _checked(side: Side) -> Side:
    if side.images is not None and side.images.number < 2:
        raise DataError(
            f"{side.name!r} has a single image, but a comparison needs two or more: add some, or name another set."
        )
    return side


def open_fakes(given: Given | Sequence[Given] | Mapping[str, Given], **options: Any) -> list[Side]:
    """Opens one or several sets of fakes, each under another name.

    Args:
      given: a set, several, or sets by the names that they are to have.
      **options: as in `open_side`.

    Raises:
      DataError: as `open_side`; or if there is none.
    """
    named: list[tuple[str, Given]]
    if isinstance(given, Mapping):
        named = [(name, given_set) for name, given_set in given.items()]
    elif isinstance(given, str | pathlib.Path | np.ndarray | ImageSet) or not isinstance(given, Sequence):
        named = [("fake", given)]
    else:
        named = [(f"fake {place + 1}", given_set) for place, given_set in enumerate(given)]
    if not named:
        raise DataError("There are no fakes to compare: give one set or more.")
    sides: list[Side] = []
    for name, given_set in named:
        side = open_side(given_set, name, **options)
        label = name if isinstance(given, Mapping) else side.name
        taken = [other.name for other in sides]
        if label in taken:
            label = f"{label} ({sum(other.startswith(label) for other in taken) + 1})"
        sides.append(side._replace(name=label))
    return sides
