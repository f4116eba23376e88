"""Flax NNX modules as networks: `from_nnx` converts a stateful module to two pure functions.

Flax NNX is imported where it is used, since its import takes 0.3 seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.types import Array, Key, Tree

if TYPE_CHECKING:
    from flax import nnx

Path: TypeAlias = tuple[Any, ...]
Leaves: TypeAlias = dict[Path, Any]


def from_nnx(factory: Callable[..., nnx.Module], *example_inputs: Any) -> Network:
    """Makes a Flax NNX module a `Network`.

    Args:
      factory: the module's class, or a function that returns a module; called as `factory(rngs=...)` for each
        initialisation. The module is called as `module(*inputs)`, with `train=...` if it takes that.
      *example_inputs: arrays or `jax.ShapeDtypeStruct`s of the inputs' shapes, with any batch: the network's input
        specification. Without them the network has none.

    Returns:
      The network. Its `params` are every `nnx.Param` and its `model_state` every other variable except the states
      of random streams, as nested dicts by attribute. `train` calls `module.train()` or `module.eval()`, which set
      `deterministic` and `use_running_average`; the model state changes only with `train=True`. Every random stream
      starts at a separate key, derived from the key of `apply` by the stream's path in the module.

    Raises:
      ValueError: if `factory` is a module that is already initialised, or does not take `rngs`; at `apply`, if the
        module draws random numbers and `key` is `None`.

    >>> from flax import nnx
    >>> class Critic(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.hidden, self.norm = nnx.Linear(2, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
    ...         self.score = nnx.Linear(8, 1, rngs=rngs)
    ...     def __call__(self, x):
    ...         return self.score(nnx.relu(self.norm(self.hidden(x))))[:, 0]
    >>> network = from_nnx(Critic, jnp.ones((1, 2)))
    >>> params, model_state = network.init(jax.random.key(0))
    >>> sorted(params), sorted(model_state["norm"]), network.couples_batch
    (['hidden', 'norm', 'score'], ['mean', 'var'], True)
    """
    from flax import nnx

    _check_factory(factory)
    abstract = nnx.eval_shape(lambda: factory(rngs=nnx.Rngs(jax.random.key(0))))
    graph, param_leaves, stream_leaves, other_leaves = _split(abstract)
    takes_train = "train" in inspect.signature(type(abstract).__call__).parameters

    @jax.jit
    def init(key: Key) -> tuple[Tree, Tree]:
        module = factory(rngs=nnx.Rngs(named_key(key, "params")))
        _, params, _, others = _split(module)
        return _to_dict(params, param_leaves), _to_dict(others, other_leaves)

    def apply(
        params: Tree, model_state: Tree, *inputs: Array, train: bool = False, key: Key | None = None
    ) -> tuple[Any, Tree]:
        streams = _streams(stream_leaves, jax.random.key(0) if key is None else key)
        module = nnx.merge(
            graph,
            _to_state(params, param_leaves),
            nnx.from_flat_state([(p, _with_value(stream_leaves[p], value)) for p, value in streams.items()]),
            _to_state(model_state, other_leaves),
        )
        if train:
            module.train()
        else:
            module.eval()
        out = module(*inputs, **({"train": train} if takes_train else {}))
        _, _, streams_after, others = _split(module)
        if key is None and _has_drawn(streams, streams_after):
            raise ValueError(
                f"{type(abstract).__name__} draws random numbers (noise or dropout) here, but has no key for them: "
                "pass apply(..., key=...)."
            )
        return out, _to_dict(others, other_leaves) if train else model_state

    def running_statistics(model_state: Tree) -> Tree:
        flat = {
            _names(path): isinstance(leaf, nnx.BatchStat) or getattr(leaf, "type", None) is nnx.BatchStat
            for path, leaf in other_leaves.items()
        }
        return unflatten_dict(flat)

    inputs = jax.eval_shape(lambda *given: given, *example_inputs) if example_inputs else None
    return Network(init=init, apply=apply, inputs=inputs, running_statistics=running_statistics)


def _check_factory(factory: Any) -> None:
    from flax import nnx

    if isinstance(factory, nnx.Module):
        name = type(factory).__name__
        raise ValueError(
            f"from_nnx initialises a module for every key, but this {name} is initialised already: pass its class, "
            f"or a function such as lambda rngs: {name}(..., rngs=rngs)."
        )
    parameters = inspect.signature(factory).parameters
    if "rngs" not in parameters and all(p.kind != p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"from_nnx calls {getattr(factory, '__name__', factory)!r} with rngs=..., which it does not take."
        )


def _split(module: nnx.Module) -> tuple[Any, Leaves, Leaves, Leaves]:
    """The module's structure, and the leaves of its parameters, of its random streams and of other variables."""
    from flax import nnx

    graph, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    params, streams, others = (dict(nnx.to_flat_state(state)) for state in states)
    return graph, params, streams, others


def _value(leaf: Any) -> Any:
    """The array of a leaf of a state, which is a variable or an array."""
    return leaf.get_value() if hasattr(leaf, "get_value") else leaf


def _names(path: Path) -> tuple[str, ...]:
    return tuple(map(str, path))


def _to_dict(leaves: Leaves, template: Leaves) -> Tree:
    """The arrays by name, without those that a call has added."""
    return unflatten_dict({_names(path): _value(leaves[path]) for path in template})


def _to_state(tree: Tree, template: Leaves) -> nnx.State:
    from flax import nnx

    flat = flatten_dict(tree)
    return nnx.from_flat_state(
        [(path, _with_value(leaf, flat[_names(path)])) for path, leaf in template.items()]
    )


def _with_value(leaf: Any, value: Any) -> Any:
    return leaf.replace(value) if hasattr(leaf, "get_value") else value


def _streams(template: Leaves, key: Key) -> dict[Path, Array]:
    """The initial states of the random streams, each with a separate key."""

    def start(path: Path, leaf: Any) -> Array:
        shape, dtype = _value(leaf).shape, _value(leaf).dtype
        if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jnp.zeros(shape, dtype)
        stream = named_key(key, "/".join(_names(path)))
        return jax.random.split(stream, shape) if shape else stream

    return {path: start(path, leaf) for path, leaf in template.items()}


def _has_drawn(before: dict[Path, Array], after: Leaves) -> bool:
    """Tells whether a stream has counted a draw, which replaces the array of its count."""
    return any(_value(after[path]) is not value for path, value in before.items())
