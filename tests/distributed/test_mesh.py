"""Meshes over several slices, of devices that only have what a mesh reads of them."""

import dataclasses

import numpy as np
import pytest

from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.mesh import LayoutError, make_mesh, mesh_shape, slice_count


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU of a node, or a chip of a slice."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "gpu"
    device_kind: str = "NVIDIA H100"


def nodes(*sizes):
    """The devices of nodes of these sizes, in turn: the first of every node, the second, ..."""
    places = [(node, place) for node, size in enumerate(sizes) for place in range(size)]
    places.sort(key=lambda at: (at[1], at[0]))
    return [Device(id=100 * node + place, slice_index=node) for node, place in places]


def slices_of(mesh):
    return np.vectorize(lambda device: device.slice_index)(mesh.devices)


def test_data_is_across_the_slices_and_fsdp_inside():
    mesh = make_mesh({"data": 4, "fsdp": 2}, nodes(4, 4))
    assert mesh.axis_names == ("data", "fsdp")
    np.testing.assert_array_equal(slices_of(mesh), [[0, 0], [0, 0], [1, 1], [1, 1]])
    assert sorted(device.id for device in mesh.devices.flat) == [0, 1, 2, 3, 100, 101, 102, 103]


def test_a_data_axis_over_all_slices_takes_them_in_turn():
    mesh = make_mesh({"data": 6}, nodes(2, 2, 2))
    np.testing.assert_array_equal(slices_of(mesh), [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("parallelism", "shape"),
    [
        ("jit", {"data": 8}),
        ("fsdp", {"data": 2, "fsdp": 4}),
        ("data:2,fsdp:4", {"data": 2, "fsdp": 4}),
        ("data:4,fsdp:2", {"data": 4, "fsdp": 2}),
    ],
)
def test_no_shard_of_a_parameter_leaves_its_slice(parallelism, shape):
    devices = nodes(4, 4)
    assert mesh_shape(parallelism, 8, slice_count(devices)) == shape
    layout = make_layout(parallelism, devices)
    assert dict(layout.mesh.shape) == shape
    by_group = slices_of(layout.mesh).reshape(shape["data"], -1)
    assert (by_group == by_group[:, :1]).all()
    assert len(np.unique(by_group)) == 2


@pytest.mark.parametrize(
    ("devices", "shape", "message"),
    [
        (nodes(4, 4), {"data": 1, "fsdp": 8}, "'data' of 1 cannot be laid across 2 slices"),
        (nodes(4, 2), {"data": 6}, r"different numbers of devices \(4, 2\)"),
    ],
)
def test_what_the_slices_do_not_allow_is_refused(devices, shape, message):
    with pytest.raises(LayoutError, match=message):
        make_mesh(shape, devices)


def test_devices_without_a_slice_are_in_one():
    assert slice_count([object(), object()]) == 1
