"""PRNG keys by name."""

from __future__ import annotations

import zlib

import jax

from gan_jax.types import Key


def named_key(key: Key, name: str) -> Key:
    """Derives a key for one purpose: the same name gives the same draw, another name an independent one.

    Results depend on these names, so they are frozen: a test lists them, and renamed code keeps them.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
