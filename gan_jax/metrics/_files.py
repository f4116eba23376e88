"""Named arrays in files that cannot hold code."""

from __future__ import annotations

import json
import pathlib
import struct
import warnings
from collections.abc import Mapping

import numpy as np

from gan_jax.data.errors import DAMAGED


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the named arrays of a `.npz` or `.safetensors` file; neither format can hold code.

    Raises:
      ValueError: if there is no such file, or it is damaged or of another kind.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"There is no file {str(file)!r}: expected weights as .npz or .safetensors.")
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
    raise ValueError(
        f"{str(file)!r} is neither .npz nor .safetensors. Files of other kinds can run code when they are read; "
        "convert it once, as the docstring of gan_jax.metrics.inception shows."
    )


def _archive(loaded: np.ndarray | Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    if isinstance(loaded, np.ndarray):
        raise ValueError("it is one array without a name")
    return loaded


_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


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
