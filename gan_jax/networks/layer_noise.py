"""Noise that layers add to their activations, and where it comes from.

In ONNX the noise is an input of the graph: while a network is converted, the numbers are given to its layers.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TypeAlias

import jax

from gan_jax.keys import named_key
from gan_jax.types import Array

NoiseSource: TypeAlias = Callable[[int, int], Array]
"""`(place of the layer, number of pixels) -> noise [B or 1, pixels]`."""
_source: contextvars.ContextVar[NoiseSource | None] = contextvars.ContextVar("noise_source", default=None)


def constant_noise(place: int, pixels: int) -> Array:
    """The normal numbers `[1, pixels]` that the layer at a place adds where none are drawn.

    >>> constant_noise(0, 16).shape
    (1, 16)
    """
    return jax.random.normal(named_key(jax.random.key(0), f"constant_noise/{place}"), (1, pixels))


def noise_source() -> NoiseSource | None:
    """What the innermost `noise_from` gives to layers; `None` outside of one."""
    return _source.get()


@contextlib.contextmanager
def noise_from(source: NoiseSource) -> Iterator[None]:
    """A context in which layers take the noise that they would draw from a function.

    >>> with noise_from(lambda place, pixels: jax.numpy.zeros((1, pixels))):
    ...     noise_source()(3, 4).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)
