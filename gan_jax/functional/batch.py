"""What has a batch axis: keys by name, draws that stay sharded, packing."""

from __future__ import annotations

import zlib

import jax
from jax.sharding import AxisType, PartitionSpec

from gan_jax.types import Array, Key, Tree

DATA_AXIS = "data"


def named_key(key: Key, name: str) -> Key:
    """The key for one use of a turn's key: the same name is the same draw, another name is independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def over_batch(tree: Tree) -> Tree:
    """Shards the leading axis of every leaf over the mesh's `data` axis; the identity where there is none.

    A draw inside a jitted step has no sharded input, so the compiler would replicate it, and everything computed
    from it, on every device: every array drawn with a batch axis goes through here.
    """
    mesh = jax.sharding.get_abstract_mesh()
    automatic = {n for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Auto}
    if DATA_AXIS not in automatic:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec(DATA_AXIS)), tree)


def flatten(x: Array) -> Array:
    """`[B, ...]` to `[B, D]`."""
    return x.reshape(x.shape[0], -1)
