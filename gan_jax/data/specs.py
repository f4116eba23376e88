"""Data by name, as it is written on a command line."""

from __future__ import annotations

import pathlib

import numpy as np

from gan_jax.data import arrays, images
from gan_jax.data.errors import DataError

KINDS = "'digits', 'mnist5k', a path to a .npz or .npy file, or an image folder"


def load(spec: str, *, size: int | None = None) -> dict[str, np.ndarray]:
    """The arrays that `spec` names: `x [N, ...]`, and `y [N]` where there are labels.

    Args:
      spec: `digits`, `mnist5k`, `path/to/file.npz` (or `.npy`), or an image folder.
      size: height and width that the images of a folder are resized to; 64 if `None`.

    Raises:
      DataError: if the spec is not understood or its data cannot be read.

    >>> load("digits")["x"].shape
    (1797, 8, 8, 1)
    """
    if spec == "digits":
        return arrays.load_digits()
    if spec == "mnist5k":
        return arrays.load_mnist5k()
    path = pathlib.Path(spec).expanduser()
    if path.suffix in (".npz", ".npy"):
        return arrays.load_npz(path)
    if path.is_dir():
        return images.load_images(path, size or 64)
    raise DataError(f"There is no data set {spec!r}: expected {KINDS}.")
