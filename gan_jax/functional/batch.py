"""What has a batch axis: keys by name, draws that stay sharded, packing."""

from __future__ import annotations

import zlib

import jax
from jax.sharding import AxisType, PartitionSpec

from gan_jax.types import Array, Key, Tree

DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
BATCH_AXES = (DATA_AXIS, FSDP_AXIS)
"""Mesh axes that share the batch; over `fsdp` parameters are divided as well."""


def named_key(key: Key, name: str) -> Key:
    """The key for one use of a turn's key: the same name is the same draw, another name is independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def over_batch(tree: Tree) -> Tree:
    """Shards the leading axis of every leaf over the mesh's `data` and `fsdp` axes; the identity without them.

    A draw inside a jitted step has no sharded input, so the compiler would replicate it, and everything computed
    from it, on every device: every array drawn with a batch axis goes through here.
    """
    mesh = jax.sharding.get_abstract_mesh()
    automatic = {n for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Auto}
    axes = tuple(axis for axis in BATCH_AXES if axis in automatic)
    if not axes:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec(axes)), tree)


def flatten(x: Array) -> Array:
    """`[B, ...]` to `[B, D]`."""
    return x.reshape(x.shape[0], -1)
