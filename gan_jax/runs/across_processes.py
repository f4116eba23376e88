"""What several processes that save and restore must agree on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from gan_jax import processes


def gather_bytes(payload: bytes | None) -> tuple[bytes, ...]:
    """Every process's bytes; a single element where they are all the same."""
    if payload is None:
        return ()
    gathered = tuple(processes.gather_bytes(payload))
    return gathered[:1] if len(set(gathered)) == 1 else gathered


def from_process_0(choose: Callable[[], int | None]) -> int | None:
    """Process 0's choice of a step, on every process: the others do not hash, and must not choose another."""
    if jax.process_count() == 1:
        return choose()
    chosen, failure = None, None
    if jax.process_index() == 0:
        try:
            chosen = choose()
        except Exception as error:
            failure = error
    agreed = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if chosen is None else chosen)))
    if failure is not None:
        raise failure
    return None if agreed < 0 else agreed
