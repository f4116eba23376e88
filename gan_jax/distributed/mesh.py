"""Meshes of devices, and checks that they divide batches.

Devices of one slice, a TPU slice or the GPUs that NVLink joins, reach one another much faster than those of another
slice, which are behind a data-centre network. A mesh over several slices has its first axis, `data`, across them:
only the gradients' sums pass the network, and the `fsdp` axis, along which parameters are gathered several times a
turn, stays inside a slice.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan_jax.functional.batch import BATCH_AXES, DATA_AXIS, FSDP_AXIS
from gan_jax.state import TrainState

PARALLELISMS = ("jit", "pmap", "fsdp")


class LayoutError(ValueError):
    """A layout that is not possible with the available devices."""


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with these axes over `devices`, by default all, with shardings chosen by the compiler.

    Over several slices the first axis is across them, slice by slice, and the others are inside.

    Raises:
      LayoutError: if the slices do not divide the first axis, or have different numbers of these devices.
    """
    devices = jax.devices() if devices is None else devices
    axis_types = (AxisType.Auto,) * len(shape)
    slices = slice_count(devices)
    if slices == 1:
        return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=axis_types, devices=devices)
    first, *inner = shape.values()
    if first % slices:
        raise LayoutError(
            f"The axis {next(iter(shape))!r} of {first} cannot be laid across {slices} slices (TPU slices, or "
            f"nodes of GPUs): make it a multiple of {slices}."
        )
    across = (slices, *(1 for _ in inner))
    grid: np.ndarray = mesh_utils.create_hybrid_device_mesh((first // slices, *inner), across, devices)
    return Mesh(grid, tuple(shape), axis_types=axis_types)


def slice_count(devices: Sequence[jax.Device]) -> int:
    """The number of slices that the devices are in: 1 where a platform does not number them.

    Raises:
      LayoutError: if the slices have different numbers of these devices.
    """
    sizes = collections.Counter(getattr(device, "slice_index", 0) for device in devices)
    if len(set(sizes.values())) > 1:
        raise LayoutError(
            f"The slices have different numbers of devices ({', '.join(map(str, sizes.values()))}): use slices of "
            "the same size."
        )
    return len(sizes)


def mesh_shape(parallelism: str, devices: int, slices: int = 1) -> dict[str, int]:
    """The axes of a parallelism: `jit`, `pmap`, `fsdp`, or sizes as in `data:2,fsdp:4`.

    Over several slices `fsdp` shards inside a slice, and `data` is across them.

    >>> mesh_shape("fsdp", 8), mesh_shape("fsdp", 8, slices=2), mesh_shape("data:2,fsdp:4", 8)
    ({'data': 1, 'fsdp': 8}, {'data': 2, 'fsdp': 4}, {'data': 2, 'fsdp': 4})

    Raises:
      LayoutError: if it is none of these, or the product of the sizes is not the number of devices.
    """
    if parallelism in ("jit", "pmap"):
        return {DATA_AXIS: devices}
    if parallelism == "fsdp":
        return {DATA_AXIS: slices, FSDP_AXIS: devices // slices}
    sizes = re.fullmatch(rf"{DATA_AXIS}:([1-9]\d*),{FSDP_AXIS}:([1-9]\d*)", parallelism)
    if sizes is None:
        raise LayoutError(
            f"parallelism is one of {PARALLELISMS}, or a mesh such as '{DATA_AXIS}:2,{FSDP_AXIS}:4'; got "
            f"{parallelism!r}."
        )
    shape = {DATA_AXIS: int(sizes[1]), FSDP_AXIS: int(sizes[2])}
    if math.prod(shape.values()) != devices:
        raise LayoutError(
            f"parallelism={parallelism} is for {math.prod(shape.values())} devices, and there are {devices}."
        )
    return shape


def check_divides(examples: int, devices: int, what: str = "batch") -> None:
    """Checks that the number of devices divides the batch size.

    Args:
      examples: the batch size B.
      devices: the number of devices over which the batch is sharded.
      what: the name of the batch in the error.

    Raises:
      LayoutError: if it does not.
    """
    if examples % devices:
        raise LayoutError(
            f"The {what} of {examples} examples cannot be sharded over {devices} devices: choose a batch size "
            f"that is a multiple of {devices}."
        )


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
    """The mesh's axes over which a batch is sharded."""
    return tuple(axis for axis in BATCH_AXES if axis in mesh.shape)


def mesh_of(state: TrainState) -> Mesh | None:
    """The mesh of the state, or `None` if it is on a single device."""
    mesh = getattr(getattr(state.step, "sharding", None), "mesh", None)
    return mesh if isinstance(mesh, Mesh) and mesh.size > 1 else None


def replicated_on(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding that replicates results, so that every process can read them; `None` on a single device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())
