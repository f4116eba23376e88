"""Samples that repeat one another, since what they are made of does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from gan_jax.game import Game, GeneratorRole
from gan_jax.types import Batch


def different_samples(game: Game, player: str, n: int, condition_batch: Callable[[int], Batch]) -> int:
    """After how many of `n` samples a generator that makes them of conditions alone is given the same ones again.

    Args:
      game, player, n, condition_batch: as in `sampling.sample`.

    Returns:
      `n` where it never is, and for a generator of a latent.
    """
    role = game.players[player].role
    assert isinstance(role, GeneratorRole)
    if game.objective.prior is not None:
        return n
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(role.condition(condition_batch(n)))]
    rows = [b"".join(hashlib.blake2b(leaf[i].tobytes()).digest() for leaf in leaves) for i in range(n)]
    return period(rows)


def period(rows: Sequence[bytes]) -> int:
    """After how many rows they begin again: all of them where they do not.

    Where only rows that are all alike come again, as black images at both ends, that is no repetition.

    >>> period([b"a", b"b", b"c", b"a", b"b"]), period([b"a", b"b", b"c", b"a"]), period([b"a", b"a"])
    (3, 4, 2)
    """
    for first in range(1, len(rows)):
        if rows[first] == rows[0] and rows[first:] == rows[:-first]:
            return first if len(set(rows[first:])) > 1 else len(rows)
    return len(rows)
