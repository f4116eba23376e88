"""Data by name, as it is written on a command line."""

from __future__ import annotations

import pathlib

import numpy as np

from gan_jax.data import arrays, images, tfds_images
from gan_jax.data.errors import DataError

KINDS = (
    "'digits', 'mnist5k', 'tfds:NAME', 'tfds:NAME@SPLIT', a path to a .npz or .npy file, or an image folder"
)


def load(
    spec: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    method: str = "lanczos",
    prepare: bool = False,
) -> dict[str, np.ndarray]:
    """The arrays that `spec` names: `x [N, ...]`, and `y [N]` where there are labels.

    Args:
      spec: `digits`, `mnist5k`, `tfds:mnist`, `tfds:mnist@test`, `path/to/file.npz` (or `.npy`), or an image
        folder.
      size: height and width that images from folders and TFDS are resized to; where `None`, a folder's get 64 and
        TFDS's keep their own.
      channels: of images from folders and TFDS: 1, 3, or `None` for their own.
      method: how they are resized, one of `images.METHODS`.
      prepare: download and prepare a TFDS data set that is not there.

    Raises:
      DataError: if the spec is not understood or its data cannot be read.

    >>> load("digits")["x"].shape
    (1797, 8, 8, 1)
    """
    if spec == "digits":
        return arrays.load_digits()
    if spec == "mnist5k":
        return arrays.load_mnist5k()
    if spec.startswith("tfds:"):
        name, _, split = spec.removeprefix("tfds:").partition("@")
        return tfds_images.load_tfds(
            name, split or "train", size=size, channels=channels, method=method, prepare=prepare
        )
    path = pathlib.Path(spec).expanduser()
    if path.suffix in (".npz", ".npy"):
        return arrays.load_npz(path)
    if path.is_dir():
        return images.load_images(path, size or 64, channels=channels, method=method)
    raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")
