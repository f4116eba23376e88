"""Tables of a network's parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from gan_jax.network import Network, parameter_count
from gan_jax.tables import text_table
from gan_jax.types import Tree


class Row(NamedTuple):
    """An array of a tree: its path, shape, dtype and number of entries."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int


def parameter_rows(tree: Tree) -> list[Row]:
    """The leaves of a tree of arrays or of their shapes, in the tree's order.

    >>> parameter_rows({"layer": {"kernel": jax.ShapeDtypeStruct((2, 3), "float32")}})
    [Row(name='layer/kernel', shape=(2, 3), dtype='float32', size=6)]
    """
    return [
        Row("/".join(map(_key_name, path)), tuple(leaf.shape), str(leaf.dtype), math.prod(leaf.shape))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def describe_network(network: Network | Tree, title: str = "parameters") -> str:
    """A table of a network's parameters and of its model state, if any, with counts and sizes.

    Args:
      network: a network, for which nothing is computed, or a tree of parameters.
      title: the heading.

    >>> print(describe_network({"layer": {"bias": jax.ShapeDtypeStruct((3,), "float32")}}, "critic"))
    critic      shape  type     count
    layer/bias  (3,)   float32      3
    total                           3  (12 B)
    """
    if not isinstance(network, Network):
        return _table(network, title)
    params, model_state = jax.eval_shape(network.init, jax.random.key(0))
    tables = [_table(params, title)]
    if jax.tree.leaves(model_state):
        tables.append(_table(model_state, f"{title}: statistics"))
    return "\n\n".join(tables)


def _table(tree: Tree, title: str) -> str:
    rows = parameter_rows(tree)
    cells = [
        (title, "shape", "type", "count"),
        *((row.name, str(row.shape), row.dtype, f"{row.size:,}") for row in rows),
        ("total", "", "", f"{parameter_count(tree):,}"),
    ]
    return f"{text_table(cells, align='lllr')}  ({_bytes(tree)})"


def _bytes(tree: Tree) -> str:
    return binary_units(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def binary_units(size: float) -> str:
    """Bytes in binary units.

    >>> binary_units(300), binary_units(3 * 2**20), binary_units(1.5 * 2**30)
    ('300 B', '3 MiB', '1.5 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"


def _key_name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
