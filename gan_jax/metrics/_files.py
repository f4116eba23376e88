"""Named arrays in files that cannot hold code."""

from __future__ import annotations

import hashlib
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping

import numpy as np

from gan_jax.data.array_files import check_packing
from gan_jax.data.errors import DAMAGED
from gan_jax.data.safetensors import read_safetensors
from gan_jax.metrics._state_dict import read_state_dict

TENSORS = (".pth", ".pt", ".bin")
_NAMED_HASH = re.compile(r"-([0-9a-f]{8})$")


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the named arrays of a `.npz` or `.safetensors` file, or of a state dictionary that PyTorch saved.

    Nothing that a file holds is run. Where the name of PyTorch's file ends in eight hexadecimal digits, as
    `vgg16-397923af.pth`, its SHA-256 has to begin with them.

    Raises:
      ValueError: if there is no such file, or it is damaged or of another kind.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"There is no file {str(file)!r}: expected weights as .npz, .safetensors or .pth.")
    try:
        if file.suffix == ".npz":
            if zipfile.is_zipfile(file):
                check_packing(file)
            # Opened here, because numpy leaves the file open when the archive turns out to be damaged.
            with file.open("rb") as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about headers written by Python 2
                return dict(_archive(np.load(opened, allow_pickle=False)))
        if file.suffix == ".safetensors":
            return read_safetensors(file.read_bytes())
    except DAMAGED as error:
        raise ValueError(f"{str(file)!r} is not a complete {file.suffix} file: {error}.") from error
    if file.suffix in TENSORS:
        _check_named_hash(file)
        return read_state_dict(file)
    raise ValueError(
        f"{str(file)!r} is none of .npz, .safetensors, {', '.join(TENSORS)}. Files of other kinds, such as .pkl, "
        "can run code when they are read: where you trust it, load it with the program that wrote it, and save "
        "its arrays with numpy.savez."
    )


def _check_named_hash(file: pathlib.Path) -> None:
    """Raises a ValueError if the file's name has the beginning of another hash, as after a broken download."""
    named = _NAMED_HASH.search(file.stem)
    if named is None:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(named[1]):
        raise ValueError(
            f"The SHA-256 of {str(file)!r} begins with {found[:8]}, but its name says {named[1]}: fetch it again, "
            "or rename it if it is another file on purpose."
        )


def _archive(loaded: np.ndarray | Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    if isinstance(loaded, np.ndarray):
        raise ValueError("it is one array without a name")
    return loaded
