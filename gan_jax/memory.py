"""Memory that compiling has freed goes back to the system."""

from __future__ import annotations

import ctypes
import functools

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's event after a program was compiled, or read from the kept ones."""
SHORT = 0.02
"""Programs compiled in fewer seconds leave too little to be worth the call."""


@functools.cache
def trim_after_compiling() -> bool:
    """Returns the memory that a compilation has freed to the system, after each from now on, in this process.

    Compiling a round takes several hundred MB that the C library otherwise keeps for later: the peak of the rounds,
    which is what a container's limit is about, then stands on top of them. It takes a few milliseconds a program.
    The launcher does it; in a notebook it is the user's to call. Called again it does nothing.

    Returns:
      whether this C library has `malloc_trim`, as glibc has; without it nothing happens.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and duration_secs > SHORT:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    return True
