"""A network as two pure functions, with the specification of its inputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
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
      apply: `(params, model_state, *inputs, train, key) -> (out, model_state)`. With `train=False` the state
        is returned unchanged. A critic's `out` is its score `[B]` (or `[B, ...patches]`; `[B, 1]` is
        refused), or a mapping with `score` and extra heads.
      inputs: shapes and dtypes of the inputs, with any batch size; `None` where they are not known. With them a
        game checks on construction what the network returns and whether it couples the examples of its batch.
      running_statistics: `model_state -> tree of bools`, true for running means and variances. A moving average
        of the network averages those; the rest of its model state (power-iteration vectors, counters, keys,
        quantised values) has no meaningful average and is the network's own.
      halves: for a generator with a mapping network, its two parts: `(params, model_state, z, *conditions, train,
        key) -> (w, model_state)` and `(params, model_state, w, train, key) -> (out, model_state)`. The first
        followed by the second is `apply`; truncation pulls w towards its mean.
      frozen_features: digests of the weights of the pretrained networks that it sees data through; evaluations mark
        scores by the same features.
    """

    init: Callable[[Key], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]
    inputs: tuple[jax.ShapeDtypeStruct, ...] | None = None
    running_statistics: Callable[[Tree], Tree] = _no_statistics
    halves: tuple[Callable[..., tuple[Any, Tree]], Callable[..., tuple[Any, Tree]]] | None = None
    frozen_features: tuple[str, ...] = ()

    @functools.cached_property
    def couples_batch(self) -> bool | None:
        """Whether one example's output depends on the others of its batch (batch normalisation, minibatch layers).

        The answer is read off the traced program, so it is right even where weights are still zero; it is `None`
        without a specification of the inputs. A term of single examples has no meaning on a critic that couples
        its batch.
        """
        return None if self.inputs is None else couples_batch(self.init, self.apply, self.inputs)


def other_shapes(network: Network, inputs: Sequence[Any]) -> bool:
    """Whether inputs `[B, ...]` differ in shape, beyond their batch, from those that a network was made for."""
    known = network.inputs is not None and len(network.inputs) == len(inputs)
    return known and _shapes(network.inputs) != _shapes(inputs)


def check_latent_shape(player: str, network: Network, inputs: Sequence[Any]) -> None:
    """Checks the latent, the first of a generator's inputs.

    Raises:
      ValueError: if it is not of the size that the network was made for.
    """
    made = network.inputs
    if made is not None and len(made) == len(inputs) and _shapes(made[0]) != _shapes(inputs[0]):
        raise ValueError(
            f"The prior draws a latent z {batched_shapes(inputs[0])}, but {player!r} was made for "
            f"{batched_shapes(made[0])}: give the prior the network's size, or make the network with an example of "
            "the prior's."
        )


def batched_shapes(inputs: Tree) -> str:
    """The shapes of a tree's leaves for any batch.

    >>> batched_shapes((jax.ShapeDtypeStruct((7, 2), "float32"), jax.ShapeDtypeStruct((7,), "int32")))
    '[B, 2] and [B]'
    """
    return " and ".join(f"[B{''.join(f', {n}' for n in shape)}]" for shape in _shapes(inputs))


def _shapes(inputs: Tree) -> list[tuple[int, ...]]:
    return [leaf.shape[1:] for leaf in jax.tree.leaves(inputs)]


def rematerialized(network: Network, policy: Callable[..., bool] | None = None) -> Network:
    """The network with its activations recomputed in the backward pass rather than stored, to save memory.

    A turn then holds the activations of one call of the network at a time, not of all of them (real, fake, the
    penalty's). Within deep networks wrap the blocks (`flax.linen.remat`); for unrolled turns there is
    `unrolled(..., remat=True)`. XLA's CPU compiler finds the repeated work and keeps the activations anyway,
    except across the steps of a loop.

    Args:
      network: the network to rematerialise.
      policy: which intermediate values are stored nevertheless, from `jax.checkpoint_policies`; none by default.

    Returns:
      A `Network` with the same parameters and the same outputs.
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
    """The number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
