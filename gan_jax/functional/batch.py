"""Arrays with a batch axis: sharding of random draws, flattening."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, PartitionSpec

from gan_jax.types import Array, Tree

DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
BATCH_AXES = (DATA_AXIS, FSDP_AXIS)
"""Mesh axes over which batches are sharded; over `fsdp` parameters are sharded as well."""


def over_batch(tree: Tree) -> Tree:
    """Shards the leading axis of every leaf over the mesh's `data` and `fsdp` axes; the identity without them.

    A draw inside a jitted step has no sharded input, so the compiler would replicate it, and everything computed
    from it, on every device: every array drawn with a batch axis goes through here.
    """
    axes = _batch_axes()
    if not axes:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec(axes)), tree)


def batch_is_sharded() -> bool:
    """Whether the mesh shares a batch between several devices."""
    shape = jax.sharding.get_abstract_mesh().shape
    return any(shape[axis] > 1 for axis in _batch_axes())


def _batch_axes() -> tuple[str, ...]:
    """The mesh's axes over which the compiler shares a batch."""
    mesh = jax.sharding.get_abstract_mesh()
    automatic = {n for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Auto}
    return tuple(axis for axis in BATCH_AXES if axis in automatic)


def flatten(x: Array) -> Array:
    """Reshapes `[B, ...]` to `[B, D]`."""
    return x.reshape(x.shape[0], -1)
