"""Parameters and optimiser state divided over the mesh's `fsdp` axis, for networks that one device cannot hold.

Every large array lies in parts on the devices of the axis. A network's parameters are put together where a call
uses them, and again in its backward pass, so that no device keeps them whole between the two; its gradients go
back in parts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.functional.batch import FSDP_AXIS
from gan_jax.game import Game
from gan_jax.network import Network
from gan_jax.types import Array, Key, Tree

SMALLEST = 2**14
"""Arrays of fewer numbers are whole on every device: dividing them costs more messages than memory."""
_WHOLE = "whole parameters"


def divided_spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """How an array lies in `parts` parts: along its largest dimension that divides, the later of equal ones.

    >>> divided_spec((3, 3, 256, 512), 8), divided_spec((5, 4096), 8), divided_spec((512,), 8)
    (P(None, None, None, 'fsdp'), P(None, 'fsdp'), P())
    """
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    dividing = [(length, axis) for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or size < SMALLEST or not dividing:
        return PartitionSpec()
    _, axis = max(dividing)
    return PartitionSpec(*[None] * axis, FSDP_AXIS)


def divided(tree: Tree, mesh: Mesh) -> Tree:
    """A sharding for every leaf (an array or its shape) of a state: the rule does not ask whose leaf it is.

    An optimiser's moments have their parameters' shapes, and so their places.
    """
    parts = mesh.shape.get(FSDP_AXIS, 1)

    def place(leaf: Any) -> NamedSharding:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, divided_spec(leaf.shape, parts))

    return jax.tree.map(place, tree)


def gathering(game: Game, parts: int) -> Game:
    """The game with networks that put their divided parameters together for each call."""
    players = {
        name: dataclasses.replace(player, network=_gathering(player.network, parts))
        for name, player in game.players.items()
    }
    return dataclasses.replace(game, players=players)


def _gathering(network: Network, parts: int) -> Network:
    def apply(
        params: Tree, model_state: Tree, *inputs: Any, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        def call(
            params: Tree, model_state: Tree, inputs: tuple[Any, ...], key: Key | None
        ) -> tuple[Any, Tree]:
            whole = jax.tree.map(lambda p: checkpoint_name(_gather(p, parts), _WHOLE), params)
            return network.apply(whole, model_state, *inputs, train=train, key=key)

        # What is kept for the backward pass is everything but the whole parameters.
        keep = jax.checkpoint_policies.save_anything_except_these_names(_WHOLE)
        return jax.checkpoint(call, policy=keep)(params, model_state, inputs, key)

    return dataclasses.replace(network, apply=apply)


# Putting together and dividing are each other's transpose. A sharding constraint alone is its own: the gradient
# would be made whole on every device before it is divided.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gather(x: Array, parts: int) -> Array:
    return jax.lax.with_sharding_constraint(x, PartitionSpec())


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _divide(x: Array, parts: int) -> Array:
    return jax.lax.with_sharding_constraint(x, divided_spec(x.shape, parts))


_gather.defvjp(lambda x, parts: (_gather(x, parts), None), lambda parts, _, g: (_divide(g, parts),))
_divide.defvjp(lambda x, parts: (_divide(x, parts), None), lambda parts, _, g: (_gather(g, parts),))
