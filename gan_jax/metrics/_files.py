"""Named arrays in files that cannot hold code."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from gan_jax.data.errors import DAMAGED
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
            # Opened here, because numpy leaves the file open when the archive turns out to be damaged.
            with file.open("rb") as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about headers written by Python 2
                return dict(_archive(np.load(opened, allow_pickle=False)))
        if file.suffix == ".safetensors":
            return _read_safetensors(file.read_bytes())
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


_SAFETENSORS: dict[str, Any] = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"},
}


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Reads the length of the header as uint64, the header as JSON, then the arrays' bytes."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    data = memoryview(content)[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        if entry["dtype"] not in _SAFETENSORS or not 0 <= start <= stop <= len(data):
            raise ValueError(f"{name} has dtype {entry['dtype']} at bytes {start} to {stop}")
        arrays[name] = np.frombuffer(data[start:stop], _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    return arrays
