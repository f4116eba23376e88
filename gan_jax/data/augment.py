"""Augmentation of the data: what the critic sees as real is changed before the step, fakes are not.

With few data the generator then learns the changes too; `functional.augment.diff_augment`, on both, avoids that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from gan_jax.data.errors import DataError
from gan_jax.data.source import Source
from gan_jax.functional.augment import Augment, random_crop, random_flip, random_translation
from gan_jax.functional.batch import named_key
from gan_jax.types import Array, Batch, Tree

AUGMENTATIONS: dict[str, Augment] = {
    "flip": random_flip,
    "crop": random_crop,
    "translation": random_translation,
}


def augmented(source: Source, *augmentations: str | Augment, seed: int = 0) -> Source:
    """`source` with its images changed at random, in the order given.

    Batch i's draws are a pure function of `seed` and i. `x` and an image `condition` of its size are changed alike,
    so pairs stay aligned; labelled images draw for themselves.

    Args:
      source: of images `x [B, H, W, C]`.
      *augmentations: `flip`, `crop`, `translation`, or functions `(key, x) -> x`.
      seed: of the draws.

    Raises:
      DataError: if a name is unknown.

    >>> from gan_jax.data.arrays import from_arrays
    >>> images = {"x": np.zeros((8, 6, 6, 1), np.uint8)}
    >>> source = augmented(from_arrays(images, batch_size=4), "flip", "crop")
    >>> fed = jax.tree.map(lambda leaf: leaf[0], source.feed(0, 1))
    >>> source.fetch(source.resident, fed)["x"].shape
    (4, 6, 6, 1)
    """
    unknown = [name for name in augmentations if isinstance(name, str) and name not in AUGMENTATIONS]
    if unknown:
        raise DataError(f"Images are augmented by {sorted(AUGMENTATIONS)} or functions, got {unknown}.")
    chain = [AUGMENTATIONS[a] if isinstance(a, str) else a for a in augmentations]

    def change(number: Array, name: str, x: Array) -> Array:
        key = named_key(jax.random.fold_in(jax.random.key(seed), number), name)
        for place, augment in enumerate(chain):
            x = augment(named_key(key, f"augment/{place}"), x)
        return x

    def feed(cursor: int, count: int) -> dict[str, Any]:
        return {
            "source": source.feed(cursor, count),
            "number": np.arange(cursor, cursor + count, dtype=np.int32),
        }

    def fetch(resident: Tree, fed: Tree) -> Batch:
        batch = dict(source.fetch(resident, fed["source"]))
        x = batch["x"]
        for name in ("x", "condition"):
            if name in batch and batch[name].shape[:3] == x.shape[:3] and batch[name].ndim == 4:
                batch[name] = change(fed["number"], "x", batch[name])
        if "labelled" in batch:
            labelled = batch["labelled"]
            batch["labelled"] = {**labelled, "x": change(fed["number"], "labelled", labelled["x"])}
        return batch

    return dataclasses.replace(source, feed=feed, fetch=fetch)
