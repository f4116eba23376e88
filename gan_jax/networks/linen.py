"""The one seam between Flax modules and the library: `from_linen` turns a module into a `Network`."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Sequence
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.types import Array, Key, Tree

RNGS = ("dropout", "noise")


def from_linen(module: nn.Module, *example_inputs: Any, rngs: Sequence[str] = RNGS) -> Network:
    """Makes a Flax module a `Network`: two pure functions and an input specification.

    Args:
      module: called as `module(*inputs, train=...)`, without `train` if the module does not take it.
      *example_inputs: arrays or `jax.ShapeDtypeStruct`s of the inputs' shapes, with a batch of 1 or 2. Their shapes
        and types are the network's input specification.
      rngs: the random streams that the module may draw from; each is derived from `apply`'s key by name.

    Returns:
      The network. Its `model_state` holds every collection but `params`; it changes only with `train=True`. The
      `key` of `apply` may be `None` if the module draws no random numbers.

    Raises:
      ValueError: without example inputs; for a module of Flax NNX, bridged or not; at `apply`, if the module draws
        random numbers and `key` is `None`.

    >>> module = nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=False)])
    >>> network = from_linen(module, jnp.ones((2, 3)))
    >>> params, model_state = network.init(jax.random.key(0))
    >>> out, model_state = network.apply(params, model_state, jnp.ones((5, 3)), train=True, key=None)
    >>> out.shape, list(model_state), network.couples_batch
    ((5, 8), ['batch_stats'], True)
    """
    if not example_inputs:
        raise ValueError(
            f"from_linen({type(module).__name__}(...)) needs an example of each input to know the shapes: "
            "from_linen(module, jnp.zeros((1, 28, 28, 1)))."
        )
    if _is_nnx(module, "Module"):
        raise ValueError(_USE_FROM_NNX.format(type(module).__name__))
    if not isinstance(module, nn.Module):
        made = f"an instance, {module.__name__}(...)" if isinstance(module, type) else "a flax.linen.Module"
        raise ValueError(f"from_linen takes {made}; got {module!r}.")
    takes_train = "train" in inspect.signature(type(module).__call__).parameters

    def switch(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def streams(key: Key | None) -> dict[str, Key]:
        return {} if key is None else {name: named_key(key, name) for name in rngs}

    @jax.jit
    def init(key: Key) -> tuple[Tree, Tree]:
        inputs = [jnp.zeros(x.shape, x.dtype) if _is_struct(x) else x for x in example_inputs]
        keys = {"params": named_key(key, "params"), **streams(key)}
        variables = dict(module.init(keys, *inputs, **switch(True)))
        return variables.pop("params", {}), variables

    def apply(
        params: Tree, model_state: Tree, *inputs: Array, train: bool = False, key: Key | None = None
    ) -> tuple[Any, Tree]:
        mutable = list(model_state) if train and model_state else False
        try:
            out = module.apply(
                {"params": params, **model_state},
                *inputs,
                rngs=streams(key),
                mutable=mutable,
                **switch(train),
            )
        except flax.errors.InvalidRngError as error:
            raise ValueError(
                f"{type(module).__name__} draws random numbers (noise or dropout) here, but has no key for them: "
                f"pass apply(..., key=...), or name the stream in from_linen(rngs=...), now {tuple(rngs)}."
            ) from error
        if not mutable:
            return out, model_state
        out, written = out
        return out, {**model_state, **written}

    with nn.intercept_methods(_refuse_bridged):
        jax.eval_shape(init, jax.random.key(0))
    return Network(
        init=init,
        apply=apply,
        inputs=jax.eval_shape(lambda *given: given, *example_inputs),
        running_statistics=_running_statistics,
    )


def _running_statistics(model_state: Tree) -> Tree:
    """Flax keeps running means and variances in the collection `batch_stats`."""
    return {
        collection: jax.tree.map(lambda leaf, name=collection: name == "batch_stats", leaves)
        for collection, leaves in model_state.items()
    }


def _is_struct(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


_USE_FROM_NNX = (
    "{} is a module of Flax NNX, whose evaluation mode Linen cannot set (batch normalisation would go on with the "
    "batch's statistics): make the network with from_nnx."
)


def _is_nnx(module: Any, name: str) -> bool:
    """Tells whether a module is an instance of a class of Flax NNX, without importing NNX."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(module, operator.attrgetter(name)(nnx))


def _refuse_bridged(run: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    module = context.module
    if _is_nnx(module, "bridge.ToLinen"):
        raise ValueError(_USE_FROM_NNX.format(getattr(module.nnx_class, "__name__", module.nnx_class)))
    return run(*args, **kwargs)
