"""A checkpoint's arrays on disk: names of leaves, small ones packed, large ones by orbax."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Sharding, SingleDeviceSharding

from gan_jax.types import Tree

_PACKED_BELOW = 1 << 20


def leaf_names(tree: Tree) -> list[str]:
    """A name for every leaf, from its path: `players.critic.params.Dense_0.kernel`.

    >>> leaf_names({"a": [1, 2], "b": {"c": 3}})
    ['a.0', 'a.1', 'b.c']
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):  # a key with a dot in it: the long form is unique
        names = [jax.tree_util.keystr(path) for path in paths]
    return names


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf: Any) -> dict[str, Any]:
    """A leaf's shape and dtype, as the manifest has them."""
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def shown(entry: Mapping[str, Any]) -> str:
    """A leaf's dtype and shape for a message."""
    return f"{entry['dtype']}{entry['shape']}"


def to_save(state: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree for orbax, and every leaf's shape, dtype and, if it is packed, offset for the manifest."""
    described: dict[str, Any] = {}
    large: dict[str, Any] = {}
    small: dict[str, Any] = {}
    for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True):
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise TypeError(f"A checkpoint holds arrays, but {name} is a {type(leaf).__name__}.")
        described[name] = describe(leaf)
        array = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        (small if _can_pack(array) else large)[name] = array
    packed, offsets = _pack(jax.device_get(small))
    for name, offset in offsets.items():
        described[name]["at"] = offset
    return {"packed": packed, **({"large": large} if large else {})}, described


def _can_pack(array: Any) -> bool:
    if array.nbytes > _PACKED_BELOW:
        return False
    return isinstance(array, np.ndarray) or array.is_fully_replicated or array.is_fully_addressable


def _pack(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """Many small arrays as the bytes of one, and where each begins: orbax's cost is by the array."""
    offsets, end = {}, 0
    for name, array in arrays.items():
        offsets[name] = end
        end += array.nbytes
    packed = np.zeros(max(end, 1), np.uint8)  # orbax refuses an empty array
    for name, array in arrays.items():
        at = offsets[name]
        packed[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return packed, offsets


def targets(target: Tree, shardings: Tree | None) -> dict[str, tuple[Any, Sharding | None]]:
    """Leaf and place by name; the place is `None` for a numpy array."""
    leaves = jax.tree.leaves(target)
    if shardings is None:
        given: list[Any] = [None] * len(leaves)
    else:
        is_place = lambda node: node is None or isinstance(node, Sharding)  # noqa: E731
        spread = lambda place, part: jax.tree.map(lambda _: _Place(place), part)  # noqa: E731
        given = [
            box.place for box in jax.tree.leaves(jax.tree.map(spread, shardings, target, is_leaf=is_place))
        ]
    wanted: dict[str, tuple[Any, Sharding | None]] = {}
    for name, leaf, place in zip(leaf_names(target), leaves, given, strict=True):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"A checkpoint holds arrays, but the target's {name} is a {type(leaf).__name__}.")
        place = place or getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
        wanted[name] = leaf, None if isinstance(leaf, np.ndarray) else place
    return wanted


class _Place:
    """A leaf that holds a sharding, so that `None` is a leaf too."""

    def __init__(self, place: Sharding | None):
        self.place = place


def load(
    path: epath.Path,
    wanted: Mapping[str, tuple[Any, Sharding | None]],
    described: Mapping[str, Any],
    *,
    partial: bool = False,
) -> list[Any]:
    """The leaves of one step, in the order of `wanted`; with `partial` these are some of its leaves."""
    ocp = orbax()
    item: dict[str, Any] = {"packed": np.zeros(1, np.uint8)}  # the saved shape is restored
    how: dict[str, Any] = {"packed": ocp.RestoreArgs(restore_type=np.ndarray)}
    large = {
        name: (_raw(leaf), place) for name, (leaf, place) in wanted.items() if "at" not in described[name]
    }
    stored = {name: described[name].get("stored", name) for name in large}
    if large:
        item["large"] = {
            stored[name]: jax.ShapeDtypeStruct(raw.shape, raw.dtype) for name, (raw, _) in large.items()
        }
        how["large"] = {
            stored[name]: ocp.RestoreArgs(restore_type=np.ndarray)
            if place is None
            else ocp.ArrayRestoreArgs(sharding=place, global_shape=raw.shape, dtype=raw.dtype)
            for name, (raw, place) in large.items()
        }
    with ocp.Checkpointer(_new_handler()) as checkpointer:
        read = checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=item, restore_args=how, partial_restore=partial)
        )
    leaves = []
    for name, (leaf, place) in wanted.items():
        if name in large:
            array = read["large"][stored[name]]
        else:
            array = _unpack(read["packed"], described[name]["at"], _raw(leaf), place)
        leaves.append(jax.random.wrap_key_data(array, impl=_key_impl(leaf)) if _is_key(leaf) else array)
    return leaves


def load_arrays(path: epath.Path, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Some leaves of one step, on the host; of typed keys their data."""
    wanted: dict[str, tuple[Any, Sharding | None]] = {}
    for name, entry in described.items():
        is_key = entry["dtype"].startswith("key<")
        shape = jax.eval_shape(jax.random.key_data, jax.random.key(0)).shape if is_key else ()
        dtype = jnp.uint32 if is_key else jnp.dtype(entry["dtype"])
        wanted[name] = np.broadcast_to(np.zeros((), dtype), (*entry["shape"], *shape)), None
    return dict(zip(wanted, load(path, wanted, described, partial=True), strict=True))


def _unpack(packed: np.ndarray, at: int, raw: Any, place: Sharding | None) -> Any:
    size = math.prod(raw.shape) * np.dtype(raw.dtype).itemsize
    array = packed[at : at + size].copy().view(raw.dtype).reshape(raw.shape)
    if place is None:
        return array
    return jax.make_array_from_callback(raw.shape, place, lambda index: array[index])


def _raw(leaf: Any) -> Any:
    """What a leaf is made of: the data of a typed key, else itself."""
    return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf


def _key_impl(leaf: Any) -> Any:
    found: list[Any] = []
    # A ShapeDtypeStruct does not have the implementation; a traced key does.
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), leaf)
    return found[0]


@functools.cache
def orbax() -> Any:
    """orbax, imported at the first save or restore: it takes as long to import as JAX itself."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").addFilter(_not_orbax_traceback)
    return ocp


def _not_orbax_traceback(record: logging.LogRecord) -> bool:
    # orbax logs, with its traceback, an error that it then raises; the user gets it once, in one line.
    return not (record.exc_info and f"{os.sep}orbax{os.sep}" in record.pathname)


def _new_handler() -> Any:
    ocp = orbax()
    # Replicas on one host gain nothing from writing a slice each, and the slicing is compiled and run while
    # training waits; between hosts it divides the writing.
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=jax.process_count() > 1)
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, arrays), (np.ndarray, ocp.type_handlers.NumpyHandler())
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)


def new_saver() -> Any:
    """A checkpointer that writes in the background."""
    ocp = orbax()
    # Where a directory cannot be made, orbax's asynchronous creation leaves threads that wait five minutes for it
    # and hold up the process's end; making it takes no time.
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(_new_handler(), async_options=options)
