"""A network as two pure functions, with the specification of its inputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from gan_jax.dependence import couples_batch
from gan_jax.types import Key, Tree


def _no_statistics(model_state: Tree) -> Tree:
    return jax.tree.map(lambda leaf: False, model_state)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network as two pure functions.

    Attributes:
      init: `key -> (params, model_state)`.
      apply: `(params, model_state, *inputs, train, key) -> (out, model_state)`. With `train=False` the state comes
        back as it went in. A critic's `out` is its score `[B]` (or `[B, ...patches]`), or a mapping with `score`
        and further heads.
      inputs: shapes and dtypes of the inputs, with any batch size; `None` where they are not known. With them a
        game checks, when it is built, what the network gives and whether it couples the examples of its batch.
      running_statistics: `model_state -> tree of bools`, true for running means and variances. A moving average
        of the network averages those; the rest of its model state (power-iteration vectors, counters, keys,
        quantised values) has no meaningful average and is the network's own.
    """

    init: Callable[[Key], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]
    inputs: tuple[jax.ShapeDtypeStruct, ...] | None = None
    running_statistics: Callable[[Tree], Tree] = _no_statistics

    @functools.cached_property
    def couples_batch(self) -> bool | None:
        """Whether one example's output depends on the others of its batch (batch normalisation, minibatch layers).

        It is found from the traced program, also where weights are still zero; `None` without a specification of
        the inputs. A term of single examples has no meaning on a critic that couples its batch.
        """
        return None if self.inputs is None else couples_batch(self.init, self.apply, self.inputs)


def rematerialized(network: Network, policy: Callable[..., bool] | None = None) -> Network:
    """The network with its activations computed again in the backward pass instead of kept: memory for time.

    A turn then holds the activations of one call of the network at a time, not of all of them (real, fake, the
    penalty's). Within deep networks wrap the blocks (`flax.linen.remat`); for unrolled turns there is
    `unrolled(..., remat=True)`. XLA's CPU compiler finds the repeated work and keeps the activations all the same,
    except across the steps of a loop.

    Args:
      network: any.
      policy: what is kept all the same, of `jax.checkpoint_policies`; nothing by default.
    """

    def apply(
        params: Tree, model_state: Tree, *inputs: Any, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        def call(
            params: Tree, model_state: Tree, inputs: tuple[Any, ...], key: Key | None
        ) -> tuple[Any, Tree]:
            return network.apply(params, model_state, *inputs, train=train, key=key)

        return jax.checkpoint(call, policy=policy)(params, model_state, inputs, key)

    return dataclasses.replace(network, apply=apply)


def parameter_count(params: Tree) -> int:
    """How many numbers a parameter tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
