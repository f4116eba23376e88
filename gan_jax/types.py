"""Aliases and Protocols that every room of the library shares.

Shapes are written `[B, ...]`: `B` examples, `T` fresh turns of a round, `K` rounds of a dispatch.
Images are float in [-1, 1], `[B, H, W, C]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import jax

if TYPE_CHECKING:
    from gan_jax.game import Game, PlayerState, Turn

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
Tree: TypeAlias = Any
"""Any pytree of arrays."""
Batch: TypeAlias = Mapping[str, Any]
"""`x`, and where the data has them `y`, `condition`, `labelled: {x, y}`; each leaf `[B, ...]`."""
Metrics: TypeAlias = dict[str, Array]
Players: TypeAlias = Mapping[str, "PlayerState"]


class Moment(NamedTuple):
    """When a turn is played: shared by its players, so that they see a common z.

    Attributes:
      step: the round, an int32 scalar.
      key: the turn's PRNG key. Draw with `named_key(moment.key, "what for")`, never with the key itself.
    """

    step: Array
    key: Key


class Aux(NamedTuple):
    """What a loss hands back beside its scalar: its own player's new state, and what it saw.

    Attributes:
      model_state: the player's statistics (batch norm, spectral norm) after the loss's calls, chained in order.
      objective_state: the player's new memory, a dict by the name of what remembers.
      scores: raw scores the loss computed, by name (`real`, `fake`), each `[B]`.
      metrics: scalars by name; every term's value stands beside the total.
      seen: arrays that terms and diagnostics use: `real` and `fake` (tuples of the critic's inputs,
        prepared), `real_out` and `fake_out` (mappings with `score` and heads), `conditions` (the critic's,
        unprepared), `inputs` (the generator's), `latent`, `sample` (the generator's raw output), `losses` (its
        mean is the loss before terms were added).
        Dropped by the compiler where nobody reads them.
    """

    model_state: Tree
    objective_state: Mapping[str, Tree]
    scores: Mapping[str, Array]
    metrics: Metrics
    seen: Mapping[str, Any]


class LossFn(Protocol):
    """A player's loss, differentiated with respect to that player's parameters only."""

    def __call__(self, game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]: ...


class Field(Protocol):
    """A turn's gradients at one point, possibly modified: `({player: grads}, {player: Aux})`."""

    def __call__(
        self, game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment
    ) -> tuple[dict[str, Tree], dict[str, Aux]]: ...


class Prepare(Protocol):
    """What is done to an example before the critic sees it: packing, noise, augmentation.

    Args:
      inputs: the critic's inputs `(x, *conditions)`, each `[B, ...]`.
      key: the preparation's own key, different for real and fake.
      step: the round.
      objective_state: the critic's memory (adaptive augmentation keeps its probability there).

    Returns:
      The prepared inputs; packing returns `[B / m, ...]`.
    """

    def __call__(
        self, inputs: tuple[Array, ...], *, key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]: ...


class Diagnostic(Protocol):
    """Scalars (or small vectors) read off one turn: its players before and after, gradients and Aux."""

    def __call__(
        self,
        game: Game,
        turn: Turn,
        before: Players,
        after: Players,
        grads: Mapping[str, Tree],
        aux: Mapping[str, Aux],
    ) -> Metrics: ...
