"""What a loss returns: the critic's outputs on real and fake examples, samples, losses and new states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gan_jax.types import Array, Metrics, Tree


class CriticView(NamedTuple):
    """What a critic was given and what it returned, for the real or for the fake examples of a turn.

    Attributes:
      inputs: `(x, *conditions)`, each `[B, ...]`, after the objective's input transforms.
      raw: the examples `[B, ...]` before the transforms.
      conditions: the conditions before the transforms.
      outputs: the critic's `score` and heads by name, in float32 or wider.
      score: `[B]`, higher for what the critic takes for real; it is `outputs["score"]` unless the objective reads
        another head.
    """

    inputs: tuple[Array, ...]
    raw: Array
    conditions: tuple[Array, ...]
    outputs: Mapping[str, Array]
    score: Array

    @property
    def x(self) -> Array:
        """The examples `[B, ...]` after the input transforms."""
        return self.inputs[0]

    def head(self, name: str) -> Array:
        """One of the critic's heads.

        Raises:
          ValueError: if the critic has no head of this name.
        """
        return head(self.outputs, name)


def head(outputs: Mapping[str, Array], name: str) -> Array:
    """One of a critic's heads.

    Raises:
      ValueError: if the critic has no head of this name.
    """
    if name not in outputs:
        raise ValueError(
            f"The objective reads the critic's head {name!r}, but its network gives {sorted(outputs)}: build the "
            f"critic with this head (heads={{{name!r}: size}})."
        )
    return outputs[name]


class ForwardOutputs(NamedTuple):
    """Intermediate results of a loss for terms and diagnostics; the compiler drops those that nothing reads.

    Attributes:
      real, fake: the critic's inputs and outputs on each; `None` in a loss without a critic.
      samples: the generator's raw samples `[B, ...]`.
      latent: z; `None` where the generator has none.
      generator_inputs: `(latent, *conditions)`.
      losses: the loss of every example `[B]`, or a scalar, before terms were added.
    """

    real: CriticView | None = None
    fake: CriticView | None = None
    samples: Array | None = None
    latent: Tree = None
    generator_inputs: tuple[Any, ...] = ()
    losses: Array | None = None


class LossOutput(NamedTuple):
    """What a loss returns; `game.loss_output` makes one.

    Attributes:
      value: the scalar that is differentiated with respect to the player's parameters.
      contributions: arrays `[B]`, one loss per example, or scalars; `value` is the sum of their means.
      metrics: scalars by name; `loss` is the total, and each term is logged next to it.
      outputs: see `ForwardOutputs`.
      model_state: the player's model state after the loss's calls of its network, in their order.
      objective_state: the player's new objective state.
    """

    value: Array
    contributions: tuple[Array, ...]
    metrics: Metrics
    outputs: ForwardOutputs
    model_state: Tree
    objective_state: Mapping[str, Tree]
