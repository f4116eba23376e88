"""The precision of matrix products and convolutions: what training has, and the highest where a number is judged.

Products of float32 arrays are not float32 everywhere: by default an NVIDIA GPU multiplies in TF32 (10 bits after
the point) and a TPU in bfloat16 (7 bits), which training bears and is several times as fast. A number by which
something is judged, a metric, a diagnostic or a spectral norm, is computed at the highest precision on every
platform.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

MATMUL_PRECISIONS = ("default", "high", "highest")
"""Names of precisions: the platform's own, about that of float32 in several passes, and that of float32."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def matmul_precision(name: str) -> contextlib.AbstractContextManager[Any]:
    """A context for what is traced in it: products of float32 arrays have this precision unless they ask for
    another.

    `default` leaves what JAX is configured with (`JAX_DEFAULT_MATMUL_PRECISION`) as it is.

    Raises:
      ValueError: if there is no such precision.

    >>> with matmul_precision("highest"):
    ...     jax.config.jax_default_matmul_precision
    'highest'
    """
    if name not in MATMUL_PRECISIONS:
        raise ValueError(f"matmul_precision is one of {', '.join(MATMUL_PRECISIONS)}, got {name!r}.")
    return contextlib.nullcontext() if name == "default" else jax.default_matmul_precision(name)


def configured() -> tuple[str, str]:
    """The precision of products and the generator of random numbers that JAX is configured with here.

    >>> configured()
    ('default', 'threefry2x32')
    """
    config: Any = jax.config
    return config.jax_default_matmul_precision or "default", str(config.jax_default_prng_impl)


def at_highest_precision(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A decorator: what the function traces or compiles has the highest precision.

    >>> at_highest_precision(lambda: jax.config.jax_default_matmul_precision)()
    'highest'
    """

    @functools.wraps(function)
    def at_highest(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with matmul_precision("highest"):
            return function(*args, **kwargs)

    return at_highest
