"""The safetensors format: named arrays in one file, without code.

Eight bytes with the length of a JSON header, the header (`{name: {dtype, shape, data_offsets}}`), and the arrays'
bytes, little-endian and row by row.

References:
  The format's description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

_DTYPES = {
    "BOOL": jnp.bool_,
    "U8": jnp.uint8,
    "I8": jnp.int8,
    "U16": jnp.uint16,
    "I16": jnp.int16,
    "F16": jnp.float16,
    "BF16": jnp.bfloat16,
    "U32": jnp.uint32,
    "I32": jnp.int32,
    "F32": jnp.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_MOST_HEADER = 100_000_000


def write_safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Arrays as a safetensors file.

    Args:
      arrays: by name.
      metadata: texts for the header's `__metadata__`.

    Raises:
      ValueError: for an array of a dtype that the format does not have.

    >>> read_safetensors(write_safetensors({"w": np.array([[1.0, 2.0]], np.float32)}))["w"].tolist()
    [[1.0, 2.0]]
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name]).reshape(np.shape(arrays[name]))
        if array.dtype not in _NAMES:
            raise ValueError(f"safetensors has no dtype {array.dtype}, of {name}.")
        data = array.tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(data)],
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name.

    Raises:
      ValueError: if it is none: its header is no such JSON, or an array does not lie where it says.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MOST_HEADER, len(data) - 8):
        raise ValueError("the header is longer than the file")
    body = memoryview(data)[8 + length :]
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= len(body) or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} does not lie where the header says")
            arrays[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
        return arrays
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("the header is no JSON") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the header is damaged ({type(error).__name__})") from error
