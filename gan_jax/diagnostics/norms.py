"""Norms of parameter trees, in total and by layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.functional.precision import at_least_float32
from gan_jax.types import Array, Tree


def tree_norm(tree: Tree) -> Array:
    """The Euclidean norm over all leaves, in float32 or wider.

    >>> float(tree_norm({"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}))
    5.0
    """
    return jnp.sqrt(tree_dot(tree, tree))


def tree_dot(first: Tree, second: Tree) -> Array:
    """The inner product of two trees with the same structure."""
    parts = jax.tree.map(lambda a, b: jnp.sum(at_least_float32(a) * at_least_float32(b)), first, second)
    return sum(jax.tree.leaves(parts), start=jnp.zeros(()))


def tree_cosine(first: Tree, second: Tree) -> Array:
    """The cosine of the angle between two trees; 0 if one of them is 0.

    >>> float(tree_cosine([jnp.array([2.0, 0.0])], [jnp.array([-3.0, 0.0])]))
    -1.0
    """
    return ratio(tree_dot(first, second), tree_norm(first) * tree_norm(second))


def difference(first: Tree, second: Tree) -> Tree:
    """The difference `first - second`, leaf by leaf."""
    return jax.tree.map(lambda a, b: at_least_float32(a) - at_least_float32(b), first, second)


def ratio(above: Array, below: Array) -> Array:
    """The quotient `above / below`, 0 where `below` is 0."""
    positive = below > 0
    return jnp.where(positive, above / jnp.where(positive, below, 1.0), 0.0)


def layers(tree: Tree) -> dict[str, Tree]:
    """The leaves of a parameter tree grouped by layer, such as a kernel and its bias.

    >>> sorted(layers({"Dense_0": {"kernel": 1, "bias": 2}, "scale": 3}))
    ['Dense_0', 'scale']
    """
    grouped: dict[str, list[Tree]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        grouped.setdefault(layer_name(path[:-1] or path), []).append(leaf)
    return grouped


def layer_name(path: tuple) -> str:
    """A path of keys joined by slashes; `all` for the empty path of a tree that is a single array."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "all"
