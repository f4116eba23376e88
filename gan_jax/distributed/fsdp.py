"""Parameters and optimiser state sharded over the mesh's `fsdp` axis, for networks that one device cannot hold.

Every large array is sharded over the devices of the axis. A network's parameters are gathered for each call, and
again in its backward pass, so that no device keeps the gathered parameters in between; gradients are sharded again.
What the network casts to bfloat16 before anything else is cast before it is gathered, which halves what is sent and
changes no bit; its gradient is summed in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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
            def original(params: Tree) -> Any:
                return network.apply(params, model_state, *inputs, train=train, key=key)

            gathered = jax.tree.map(
                lambda p, dtype: checkpoint_name(_gather(p, parts, dtype), _GATHERED),
                params,
                dtypes_of_use(original, params),
            )
            return original(gathered)

        # Everything except the gathered parameters is kept for the backward pass.
        keep = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        return jax.checkpoint(call, policy=keep)(params, model_state, inputs, key)

    return dataclasses.replace(network, apply=apply)


def dtypes_of_use(function: Callable[[Tree], Any], params: Tree) -> Tree:
    """For every parameter the dtype, as a name, that the function casts it to before anything else; its own if
    none.

    >>> params = {"cast": jnp.ones(2), "used": jnp.ones(2)}
    >>> dtypes_of_use(lambda p: p["cast"].astype("bfloat16") * p["used"].astype("bfloat16") + p["used"], params)
    {'cast': 'bfloat16', 'used': 'float32'}
    """
    leaves, structure = jax.tree.flatten(params)
    flat = lambda *leaves: function(jax.tree.unflatten(structure, leaves))  # noqa: E731
    uses: list[set[str]] = [set() for _ in leaves]
    jaxpr = jax.make_jaxpr(flat)(*leaves).jaxpr
    _collect_uses(jaxpr, dict(zip(jaxpr.invars, range(len(leaves)), strict=True)), uses)

    def dtype(leaf: Any, found: set[str]) -> str:
        if len(found) == 1 and _USED not in found:
            (cast,) = map(jnp.dtype, found)
            if jnp.issubdtype(cast, jnp.floating) and cast.itemsize < leaf.dtype.itemsize:
                return str(cast)
        return str(leaf.dtype)

    return jax.tree.unflatten(
        structure, [dtype(leaf, found) for leaf, found in zip(leaves, uses, strict=True)]
    )


def _collect_uses(jaxpr: Any, known: dict[Any, int], uses: list[set[str]]) -> None:
    """Adds the dtype of every cast of the known variables, and `used` where they are read otherwise."""
    for equation in jaxpr.eqns:
        inner = next((equation.params[n] for n in ("jaxpr", "call_jaxpr") if n in equation.params), None)
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(inner.invars) == len(equation.invars):
            passed = zip(inner.invars, equation.invars, strict=True)
            _collect_uses(inner, {new: known[old] for new, old in passed if _is_known(old, known)}, uses)
            continue
        for atom in equation.invars:
            if _is_known(atom, known):
                is_cast = equation.primitive.name == "convert_element_type"
                uses[known[atom]].add(str(equation.params["new_dtype"]) if is_cast else _USED)
    for atom in jaxpr.outvars:
        if _is_known(atom, known):
            uses[known[atom]].add(_USED)


_USED = "used"


def _is_known(atom: Any, known: dict[Any, int]) -> bool:
    return not hasattr(atom, "val") and atom in known


# Gathering and sharding are each other's transpose. A sharding constraint is its own transpose: with it, the
# gradient would be replicated before it is sharded. A cast before gathering is undone behind it, so that the
# network sees its parameter's dtype, and compilers drop the pair of casts.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: Array, parts: int, dtype: str) -> Array:
    return jax.lax.with_sharding_constraint(x.astype(dtype), PartitionSpec()).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _shard(x: Array, parts: int) -> Array:
    return jax.lax.with_sharding_constraint(x, sharded_spec(x.shape, parts))


_gather.defvjp(
    lambda x, parts, dtype: (_gather(x, parts, dtype), None), lambda parts, dtype, _, g: (_shard(g, parts),)
)
_shard.defvjp(
    lambda x, parts: (_shard(x, parts), None), lambda parts, _, g: (_gather(g, parts, str(g.dtype)),)
)
