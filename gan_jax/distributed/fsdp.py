"""Parameters and optimiser state sharded over the mesh's `fsdp` axis, for networks that one device cannot hold.

Every large array is sharded over the devices of the axis. A network's parameters are gathered for each call, and
again in its backward pass, so that no device keeps the gathered parameters in between; gradients are sharded again.
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
"""Arrays of fewer numbers are replicated: sharding them costs more messages than it saves memory."""
_GATHERED = "gathered parameters"


def sharded_spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """The sharding of an array in `parts` parts: along its largest divisible dimension, the later of equal ones.

    >>> sharded_spec((3, 3, 256, 512), 8), sharded_spec((5, 4096), 8), sharded_spec((512,), 8)
    (P(None, None, None, 'fsdp'), P(None, 'fsdp'), P())
    """
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    dividing = [(length, axis) for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or size < SMALLEST or not dividing:
        return PartitionSpec()
    _, axis = max(dividing)
    return PartitionSpec(*[None] * axis, FSDP_AXIS)


def state_shardings(tree: Tree, mesh: Mesh) -> Tree:
    """A sharding for every leaf (an array or its shape) of a state, by its shape only.

    An optimiser's moments have their parameters' shapes, and so their shardings.
    """
    parts = mesh.shape.get(FSDP_AXIS, 1)

    def place(leaf: Any) -> NamedSharding:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, sharded_spec(leaf.shape, parts))

    return jax.tree.map(place, tree)


def gather_parameters(game: Game, parts: int) -> Game:
    """The game with networks that gather their sharded parameters for each call."""
    players = {
        name: dataclasses.replace(player, network=_gather_for_calls(player.network, parts))
        for name, player in game.players.items()
    }
    return dataclasses.replace(game, players=players)


def _gather_for_calls(network: Network, parts: int) -> Network:
    def apply(
        params: Tree, model_state: Tree, *inputs: Any, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        def call(
            params: Tree, model_state: Tree, inputs: tuple[Any, ...], key: Key | None
        ) -> tuple[Any, Tree]:
            gathered = jax.tree.map(lambda p: checkpoint_name(_gather(p, parts), _GATHERED), params)
            return network.apply(gathered, model_state, *inputs, train=train, key=key)

        # Everything except the gathered parameters is kept for the backward pass.
        keep = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        return jax.checkpoint(call, policy=keep)(params, model_state, inputs, key)

    return dataclasses.replace(network, apply=apply)


# Gathering and sharding are each other's transpose. A sharding constraint is its own transpose: with it, the
# gradient would be replicated before it is sharded.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gather(x: Array, parts: int) -> Array:
    return jax.lax.with_sharding_constraint(x, PartitionSpec())


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _shard(x: Array, parts: int) -> Array:
    return jax.lax.with_sharding_constraint(x, sharded_spec(x.shape, parts))


_gather.defvjp(lambda x, parts: (_gather(x, parts), None), lambda parts, _, g: (_shard(g, parts),))
_shard.defvjp(lambda x, parts: (_shard(x, parts), None), lambda parts, _, g: (_gather(g, parts),))
