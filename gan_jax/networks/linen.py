"""The one seam between Flax modules and the library: `from_linen` turns a module into a `Network`."""

from __future__ import annotations

import inspect
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


def from_linen(
    module: nn.Module, *example_inputs: Any, couples_batch: bool | None = None, rngs: Sequence[str] = RNGS
) -> Network:
    """Makes a Flax module a `Network`: two pure functions and a promise about batches.

    Args:
      module: called as `module(*inputs, train=...)`; `train` is left out where the module does not take it.
      *example_inputs: arrays or `jax.ShapeDtypeStruct`s of the inputs' shapes, with a batch of 1 or 2.
      couples_batch: whether one example's output depends on the others of its batch. `None` finds out by
        watching which submodules run: `nn.BatchNorm` with batch statistics, and every module whose
        class sets `couples_batch = True`.
      rngs: the random streams that the module may draw from; each is derived from `apply`'s key by name.

    Returns:
      The network. Its `model_state` are every collection but `params`; they change only with `train=True`.
      `apply`'s `key` may be `None` where nothing random runs.

    Raises:
      ValueError: without example inputs; at `apply`, where the module draws and `key` is `None`.

    >>> module = nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=False)])
    >>> network = from_linen(module, jnp.ones((2, 3)))
    >>> params, stats = network.init(jax.random.key(0))
    >>> out, stats = network.apply(params, stats, jnp.ones((5, 3)), train=True, key=None)
    >>> out.shape, list(stats), network.couples_batch
    ((5, 8), ['batch_stats'], True)
    """
    if not example_inputs:
        raise ValueError(
            f"from_linen({type(module).__name__}(...)) needs an example of each input to know the shapes: "
            "from_linen(module, jnp.zeros((1, 28, 28, 1)))."
        )
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
                f"give apply(..., key=...), or name the stream in from_linen(rngs=...), now {tuple(rngs)}."
            ) from error
        if not mutable:
            return out, model_state
        out, written = out
        return out, {**model_state, **written}

    if couples_batch is None:
        couples_batch = _couples_batch(init)
    inputs = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in example_inputs)
    return Network(init=init, apply=apply, inputs=inputs)


def _is_struct(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _couples_batch(init: Any) -> bool:
    """Runs `init` abstractly and watches for submodules that mix the examples of a batch."""
    found = False

    def watch(run: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal found
        module = context.module
        if context.method_name == "__call__":
            found |= getattr(type(module), "couples_batch", False) or _uses_batch_statistics(module, kwargs)
        return run(*args, **kwargs)

    with nn.intercept_methods(watch):
        jax.eval_shape(init.__wrapped__, jax.random.key(0))
    return found


def _uses_batch_statistics(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    if not isinstance(module, nn.BatchNorm):
        return False
    given = kwargs.get("use_running_average")
    return not (module.use_running_average if given is None else given)
