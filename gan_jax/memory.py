"""The process's memory: what compiling has freed goes back to the system, and garbage is looked for less often."""

from __future__ import annotations

import ctypes
import functools
import gc

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's event after a program was compiled, or read from the kept ones."""
SHORT = 0.02
"""Programs compiled in fewer seconds leave too little to be worth the call."""
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
"""JAX's event after a program was lowered, just before it is compiled, or read from the kept ones."""
LARGE = 0.5
"""Programs lowered in fewer seconds take too little memory to make room for."""
COLLECT_AFTER = 5_000
"""Python looks for garbage after so many new objects, by default after 700 or 2,000."""


def collect_garbage_less_often() -> None:
    """Leaves the objects that are there out of all later garbage collections, and has fewer of these.

    The 120,000 containers of what the launcher imports are never garbage. Looking at them again and again while
    programs are traced took 1.1 of the 6.4 s of processor time of a residual network's warm launch, .5 s after this
    call. The launcher makes it.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


@functools.cache
def trim_after_compiling() -> bool:
    """Returns the memory that a compilation has freed to the system, after each from now on, in this process.

    Compiling a round takes several hundred MB that the C library otherwise keeps for later: the peak of the rounds,
    which is what a container's limit is about, then stands on top of them. It takes a few milliseconds a program.
    Before a large program is compiled, garbage is collected too: the program that made the first state is held by
    reference cycles, StyleGAN2's with 100 MB. The launcher does it; in a notebook it is the user's to call. Called
    again it does nothing.

    Returns:
      whether this C library has `malloc_trim`, as glibc has; without it nothing happens.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False

    def heard(event: str, duration_secs: float, **_: str | int) -> None:
        if event == LOWERED and duration_secs > LARGE:
            gc.collect()
            trim(0)
        elif event == COMPILED and duration_secs > SHORT:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(heard)
    return True
