"""Transfer from the host to the devices: local shards of batches, and replicated trees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.distributed.mesh import batch_axes, check_divides
from gan_jax.state import TrainState
from gan_jax.types import Array, Metrics, Tree

Run: TypeAlias = Callable[[TrainState, Tree, Any, int], tuple[TrainState, Metrics]]
"""`(state, donated; device_data; host_batches [K, T, ...]; rounds) -> (state, metrics [K])`."""


@dataclasses.dataclass(frozen=True)
class LocalShard:
    """The parts of every batch that this process's devices hold.

    Attributes:
      parts: the indices of these parts, in order.
      total: the number of equal parts of a batch, one per device of the mesh.
    """

    parts: tuple[int, ...]
    total: int

    @classmethod
    def on(cls, mesh: Mesh) -> LocalShard:
        """This process's shard on a mesh."""
        process = jax.process_index()
        parts = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == process]
        return cls(tuple(parts), mesh.size)

    def local_source(self, source: Source) -> Source:
        """The source, restricted to this shard if it can be read in parts.

        Raises:
          LayoutError: if the number of devices does not divide its batch size.
        """
        check_divides(source.batch_size, self.total)
        read = source.host_batch_shards
        if len(self.parts) == self.total or read is None:
            return source
        return dataclasses.replace(
            source, host_batches=lambda cursor, count: LocalRows(read(cursor, count, self.parts, self.total))
        )

    def batch_size(self, local: int) -> int:
        """The batch size B, if this process holds `local` examples of each batch."""
        return local * self.total // len(self.parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LocalRows:
    """Host batches that hold only this process's shard of every batch."""

    rows: Any


@dataclasses.dataclass(frozen=True)
class Sent:
    """Host batches on their way to the devices, in the form that the layout's programs take."""

    batches: Any


def put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Puts a tree that this process holds completely on the devices of `sharding`."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put_leaf(x: Any) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put_leaf, tree)


def _put_rows(x: np.ndarray, sharding: NamedSharding, shard: LocalShard) -> Array:
    """Makes the global array `[K, T, B, ...]` from the rows of this process, `[K, T, rows, ...]`."""
    examples = shard.batch_size(x.shape[2])
    size = examples // shard.total

    def rows(index: Any) -> np.ndarray:
        start = shard.parts.index((index[2].start or 0) // size) * size
        return x[:, :, start : start + size]

    return jax.make_array_from_callback((*x.shape[:2], examples, *x.shape[3:]), sharding, rows)


def host_batch_spec(leaf: Any, mesh: Mesh) -> PartitionSpec:
    """The sharding of host batches: `[K, T, B, ...]` along B; `[K, T]` (indices of drawn batches) replicated."""
    return PartitionSpec(None, None, batch_axes(mesh)) if leaf.ndim > 2 else PartitionSpec()


def send(host_batches: Any, mesh: Mesh) -> Any:
    """Puts host batches on the devices, `[K, T, B, ...]` sharded along B; those that are sent already stay there.

    Raises:
      LayoutError: if the number of devices does not divide a batch size.
    """
    if isinstance(host_batches, Sent):
        return host_batches.batches
    shard = LocalShard.on(mesh)
    is_local = isinstance(host_batches, LocalRows)

    def send_leaf(path: Any, x: np.ndarray) -> Array:
        sharding = NamedSharding(mesh, host_batch_spec(x, mesh))
        if x.ndim > 2:
            examples = shard.batch_size(x.shape[2]) if is_local else x.shape[2]
            check_divides(examples, mesh.size, f"batch{jax.tree_util.keystr(path)}")
        return _put_rows(x, sharding, shard) if is_local and x.ndim > 2 else put(x, sharding)

    return jax.tree.map_with_path(send_leaf, host_batches.rows if is_local else host_batches)


@jax.jit
def first_batch(host_batches: Any) -> Any:
    """The first turn's host batch of the first round, from host batches on the devices."""
    return jax.tree.map(lambda x: x[0, 0], host_batches)


def bytes_of_round(host_batches: Any) -> int:
    """The bytes that this process sends for one round, from host batches `[K, T, ...]`."""
    rows = host_batches.rows if isinstance(host_batches, LocalRows) else host_batches
    return sum(np.asarray(leaf[:1]).nbytes for leaf in jax.tree.leaves(rows))


def is_drawn(host_batches: Any) -> bool:
    """Tells whether host batches hold only the indices of batches that are drawn on the device."""
    return all(leaf.ndim <= 2 for leaf in jax.tree.leaves(host_batches))
