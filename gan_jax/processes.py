"""What several processes of one program share out and exchange; a single process has all of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

_BLOCK_BYTES = 2**25
"""How many bytes are exchanged at a time, over all processes."""


def share(number: int) -> range:
    """This process's part of `number` rows; the parts of all processes, in their order, are all rows.

    >>> share(5)
    range(0, 5)
    """
    count, this = jax.process_count(), jax.process_index()
    return range(number * this // count, number * (this + 1) // count)


def gather_bytes(payload: bytes) -> list[bytes]:
    """Every process's bytes, by process; all processes call this at the same point.

    >>> gather_bytes(b"one")
    [b'one']
    """
    if jax.process_count() == 1:
        return [payload]
    from jax.experimental import multihost_utils

    # Sent as uint32: without x64 JAX would cut int64.
    words = np.array([len(payload)], np.int64).view(np.uint32)
    gathered = np.ascontiguousarray(multihost_utils.process_allgather(words))
    lengths = gathered.view(np.int64)[:, 0]
    parts = [bytearray() for _ in lengths]
    size = max(1, _BLOCK_BYTES // len(lengths))
    for start in range(0, int(lengths.max()), size):
        block = np.zeros(min(size, int(lengths.max()) - start), np.uint8)
        piece = np.frombuffer(payload[start : start + size], np.uint8)
        block[: len(piece)] = piece
        for part, row in zip(parts, np.asarray(multihost_utils.process_allgather(block)), strict=True):
            part += row.tobytes()
    return [bytes(part[:length]) for part, length in zip(parts, lengths, strict=True)]


def gather(value: Any) -> list[Any]:
    """Every process's value, which JSON can hold, by process; all processes call this at the same point.

    >>> gather({"rows": 3})
    [{'rows': 3}]
    """
    return [json.loads(text) for text in gather_bytes(json.dumps(value).encode())]


def gather_arrays(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Every process's arrays by name, by process; all processes call this at the same point.

    >>> gather_arrays({"x": np.arange(2)})
    [{'x': array([0, 1])}]
    """
    if jax.process_count() == 1:
        return [dict(arrays)]
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    found = []
    for payload in gather_bytes(packed.getvalue()):
        with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
            found.append({name: stored[name] for name in stored.files})
    return found
