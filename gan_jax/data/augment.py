"""Augmentation of the data: what the critic sees as real is changed before the step, fakes are not.

With few data the generator then learns the changes too; `functional.augment.diff_augment`, on both, avoids that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.data.errors import DataError
from gan_jax.data.source import Source, parts_of
from gan_jax.functional.augment import Augment, chain, crop, flip, translation
from gan_jax.functional.batch import over_batch
from gan_jax.keys import named_key
from gan_jax.types import Array, Batch, Tree

AUGMENTATIONS: dict[str, Augment] = {
    "flip": flip(),
    "crop": crop(),
    "translation": translation(),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AugmentedSource(Source):
    """A source whose images are changed at random.

    Attributes:
      get_examples: as `get_batch`, the batch before it is changed.
    """

    get_examples: Callable[[Tree, Tree], Batch]


def unaugmented(source: Source) -> Callable[[Tree, Tree], Batch]:
    """`get_batch` of a source, without the changes of `augmented`: the data as they are.

    >>> from gan_jax.data.arrays import from_arrays
    >>> images = {"x": np.zeros((8, 6, 6, 1), np.uint8)}
    >>> source = augmented(from_arrays(images, batch_size=4, value_range="standard"), "translation")
    >>> host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    >>> float(unaugmented(source)(source.device_data, host_batch)["x"].max())
    -1.0
    """
    return source.get_examples if isinstance(source, AugmentedSource) else source.get_batch


def augmented(source: Source, *augmentations: str | Augment, seed: int = 0) -> Source:
    """`source` with its images changed at random, in the order given.

    Each example's draws are a pure function of `seed` and of its number in the run, on any number of devices. `x`
    and an image `condition` are changed alike, so pairs stay aligned; labelled images draw for themselves.

    Args:
      source: of images `x [B, H, W, C]`.
      *augmentations: `flip`, `crop`, `translation`, or an `Augment` of one's own.
      seed: of the draws.

    Raises:
      DataError: if a name is unknown; by the source's `get_batch` if the condition is of another size than `x` and
        anything but `flip` is asked for, which moves by pixels.

    >>> from gan_jax.data.arrays import from_arrays
    >>> images = {"x": np.zeros((8, 6, 6, 1), np.uint8)}
    >>> source = augmented(from_arrays(images, batch_size=4), "flip", "crop")
    >>> host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    >>> source.get_batch(source.device_data, host_batch)["x"].shape
    (4, 6, 6, 1)
    """
    unknown = [name for name in augmentations if isinstance(name, str) and name not in AUGMENTATIONS]
    if unknown:
        raise DataError(f"Images are augmented by {sorted(AUGMENTATIONS)} or an Augment, got {unknown}.")
    whole = chain(*[AUGMENTATIONS[a] if isinstance(a, str) else a for a in augmentations])

    # The seed is data, so that one program augments for many seeds.
    def change(seed: Array, numbers: Array, name: str, x: Array) -> Array:
        base = named_key(jax.random.key(seed), name)

        def one(number: Array, image: Array) -> Array:
            return whole.change(jax.random.uniform(jax.random.fold_in(base, number), (whole.draws,)), image)

        return over_batch(jax.vmap(one)(over_batch(numbers), x))

    def numbered(
        host_batch: Any, cursor: int, count: int, parts: Sequence[int], total: int, batch_size: int
    ) -> dict[str, Any]:
        sizes = {"x": batch_size}
        if isinstance(host_batch, Mapping) and "labelled" in host_batch:
            sizes["labelled"] = host_batch["labelled"].shape[1] * total // len(parts)
        numbers = {
            name: np.stack([parts_of(batch, parts, total) for batch in _numbers(cursor, count, size)])
            for name, size in sizes.items()
        }
        return {"source": host_batch, "numbers": numbers}

    def host_batches(cursor: int, count: int) -> dict[str, Any]:
        return numbered(source.host_batches(cursor, count), cursor, count, (0,), 1, source.batch_size)

    def host_batch_shards(cursor: int, count: int, parts: Sequence[int], total: int) -> dict[str, Any]:
        assert source.host_batch_shards is not None
        host_batch = source.host_batch_shards(cursor, count, parts, total)
        return numbered(host_batch, cursor, count, parts, total, source.batch_size)

    def epoch_batches(cursor: int, count: int) -> dict[str, Any]:
        assert source.epoch_batches is not None
        assert source.size is not None
        batch_size = min(source.batch_size, source.size)
        return numbered(source.epoch_batches(cursor, count), cursor, count, (0,), 1, batch_size)

    def get_batch(device_data: Tree, host_batch: Tree) -> Batch:
        batch, numbers = (
            dict(source.get_batch(device_data["source"], host_batch["source"])),
            host_batch["numbers"],
        )
        seed_data = device_data["seed"]
        _check_sizes(batch, augmentations)
        for name in ("x", "condition"):
            if name in batch and batch[name].ndim == batch["x"].ndim == 4:
                batch[name] = change(seed_data, numbers["x"], "x", batch[name])
        if "labelled" in batch:
            labelled = batch["labelled"]
            batch["labelled"] = {
                **labelled,
                "x": change(seed_data, numbers["labelled"], "labelled", labelled["x"]),
            }
        return batch

    plain = unaugmented(source)
    fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)} | {
        "host_batches": host_batches,
        "host_batch_shards": host_batch_shards if source.host_batch_shards else None,
        "epoch_batches": epoch_batches if source.epoch_batches else None,
        "get_batch": get_batch,
        "device_data": {"source": source.device_data, "seed": np.uint32(seed)},
        "for_device": lambda data: {**data, "source": source.for_device(data["source"])},
    }
    return AugmentedSource(
        **fields,
        get_examples=lambda device_data, host_batch: plain(device_data["source"], host_batch["source"]),
    )


def _check_sizes(batch: Batch, augmentations: Sequence[str | Augment]) -> None:
    """Checks that the same draws keep `x` and an image condition aligned.

    Raises:
      DataError: if not.
    """
    x, condition = batch["x"], batch.get("condition")
    if condition is None or not condition.ndim == x.ndim == 4 or condition.shape[1:3] == x.shape[1:3]:
        return
    others = [name if isinstance(name, str) else "an Augment" for name in augmentations if name != "flip"]
    if others:
        sizes = [f"{image.shape[1]} x {image.shape[2]}" for image in (x, condition)]
        raise DataError(
            f"x is {sizes[0]} and its condition {sizes[1]}: of two sizes only 'flip' keeps pairs aligned, got "
            f"{', '.join(others)}. Leave it out, or bring both to one size."
        )


def _numbers(cursor: int, count: int, size: int) -> np.ndarray:
    """Every example's number in the run, `[count, size]` int32; past 2^31 examples they start again."""
    numbers = np.arange(cursor * size, (cursor + count) * size, dtype=np.int64) % 2**31
    return numbers.reshape(count, size).astype(np.int32)
