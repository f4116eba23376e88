"""Batches of a source outside of training: on the devices of a state, and its examples in order."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.source import Source
from gan_jax.distributed.mesh import mesh_of
from gan_jax.state import TrainState
from gan_jax.types import Batch, Tree


def get_batch(source: Source, state: TrainState, host_batch: Any, device_data: Tree = None) -> Batch:
    """One batch on the state's devices, from its share of `source.host_batches`.

    Args:
      source: the data.
      state: on the devices in question.
      host_batch: what the host sends for this batch.
      device_data: `source.device_data` where it is on the devices already.
    """
    device_data = source.device_data if device_data is None else device_data
    with share_batch(state, jax.eval_shape(source.get_batch, device_data, host_batch)):
        return _fetcher(source)(device_data, host_batch)


@functools.lru_cache(maxsize=8)
def _fetcher(source: Source) -> Callable[[Tree, Any], Batch]:
    return jax.jit(source.get_batch)


def share_batch(state: TrainState, batch: Batch) -> contextlib.AbstractContextManager[Any]:
    """Within the state's mesh where its devices divide the batch; a batch that they do not is whole on each."""
    mesh = mesh_of(state)
    if mesh is None:
        return contextlib.nullcontext()
    divided = all(leaf.shape[0] % mesh.size == 0 for leaf in jax.tree.leaves(batch))
    return jax.set_mesh(mesh) if divided else contextlib.nullcontext()


def batches_of(source: Source) -> Iterator[Any]:
    """What the host sends for one batch after the other, from the first; only forward, as a stream is read."""
    return _forward(source.host_batches)


def _forward(batches: Callable[[int, int], Any]) -> Iterator[Any]:
    cursor = 0
    while True:
        yield jax.tree.map(lambda x: x[0], batches(cursor, 1))
        cursor += 1


def source_examples(
    source: Source, n: int, host_batch_iterator: Iterator[Any] | None = None, entry: str = "x"
) -> np.ndarray:
    """The first `n` examples of a source, or all where it has fewer, as the critic's first input sees them.

    Reads the source from its beginning, so not while it trains. No example comes twice, even of a source that draws
    with replacement.

    Args:
      source: the data.
      n: how many at most.
      host_batch_iterator: where to take batches from; `batches_of(source)` if `None`. A source that draws with
        replacement is read through its `epoch_batches` all the same.
      entry: of the batches.

    Returns:
      `[n, ...]`, floats; images in [-1, 1].
    """
    wanted = n if source.size is None else min(n, source.size)
    device_data = jax.tree.map(jnp.asarray, source.device_data)
    parts: list[np.ndarray] = []
    if source.epoch_batches is not None:
        host_batch_iterator = _forward(source.epoch_batches)
    elif host_batch_iterator is None:
        host_batch_iterator = batches_of(source)
    while sum(map(len, parts)) < wanted:
        parts.append(np.asarray(_fetcher(source)(device_data, next(host_batch_iterator))[entry]))
    return np.concatenate(parts)[:wanted]
