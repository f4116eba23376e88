"""Batches of a source outside training: on the devices of a state, or as examples in order."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.augment import unaugmented
from gan_jax.data.source import Source
from gan_jax.distributed.mesh import mesh_of
from gan_jax.state import TrainState
from gan_jax.types import Batch, Tree


def get_batch(source: Source, state: TrainState, host_batch: Any, device_data: Tree = None) -> Batch:
    """Makes a batch on the state's devices from an entry of `source.host_batches`.

    Args:
      source: the data.
      state: a state on the devices that are to hold the batch.
      host_batch: the host's data for this batch.
      device_data: `source.device_data`, if it is on the devices already.
    """
    device_data = source.for_device(source.device_data) if device_data is None else device_data
    with batch_mesh(state, jax.eval_shape(source.get_batch, device_data, host_batch)):
        return _jitted_get_batch(source)(device_data, host_batch)


@functools.lru_cache(maxsize=8)
def _jitted_get_batch(source: Source) -> Callable[[Tree, Any], Batch]:
    return jax.jit(source.get_batch)


def batch_mesh(state: TrainState, batch: Batch) -> contextlib.AbstractContextManager[Any]:
    """The context of the state's mesh if its size divides the batch; otherwise the batch is to be replicated."""
    mesh = mesh_of(state)
    if mesh is None:
        return contextlib.nullcontext()
    divisible = all(leaf.shape[0] % mesh.size == 0 for leaf in jax.tree.leaves(batch))
    return jax.set_mesh(mesh) if divisible else contextlib.nullcontext()


def iterate_host_batches(source: Source) -> Iterator[Any]:
    """Yields the host's data of single batches in order, from the first; a stream can only be read forward."""
    return _forward(source.host_batches)


def _forward(batches: Callable[[int, int], Any]) -> Iterator[Any]:
    cursor = 0
    while True:
        yield jax.tree.map(lambda x: x[0], batches(cursor, 1))
        cursor += 1


def source_examples(
    source: Source, n: int, host_batch_iterator: Iterator[Any] | None = None, entry: str = "x"
) -> np.ndarray:
    """The first `n` examples of a source, or all if it has fewer.

    The source is read from its beginning, so it must not be in use for training. No example comes twice, even if
    the source draws with replacement, and none is changed by an augmentation of the data.

    Args:
      source: the data.
      n: the largest number of examples.
      host_batch_iterator: the batches to read; `iterate_host_batches(source)` by default. A source that draws with
        replacement is read through its `epoch_batches` instead.
      entry: the entry of the batches that holds the examples.

    Returns:
      `[n, ...]`, floats; images in [-1, 1].
    """
    wanted = n if source.size is None else min(n, source.size)
    device_data = jax.tree.map(jnp.asarray, source.for_device(source.device_data))
    get_examples = jax.jit(unaugmented(source))
    parts: list[np.ndarray] = []
    if source.epoch_batches is not None:
        host_batch_iterator = _forward(source.epoch_batches)
    elif host_batch_iterator is None:
        host_batch_iterator = iterate_host_batches(source)
    while sum(map(len, parts)) < wanted:
        parts.append(np.asarray(get_examples(device_data, next(host_batch_iterator))[entry]))
    return np.concatenate(parts)[:wanted]
