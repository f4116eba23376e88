"""One turn: gradients from the field, through the optimisers, into the players."""

from __future__ import annotations

from collections.abc import Sequence

from gan_jax.field import advance, gradient_field
from gan_jax.game import Diagnostic, PlayedTurn, TurnContext
from gan_jax.precision import at_highest_precision
from gan_jax.schedule import Turn
from gan_jax.state import PlayerState
from gan_jax.types import Metrics


def apply_turn(
    turn: Turn, context: TurnContext, diagnostics: Sequence[Diagnostic] = ()
) -> tuple[dict[str, PlayerState], Metrics]:
    """Moves the players of `turn` once, all from the same point; the others stay as they are.

    Args:
      turn: the turn of the schedule.
      context: the game, all players' states, the turn's batch, the round and the turn's key.
      diagnostics: functions of the played turn, whose metrics are added, with products of the highest
        precision; not of a turn that minimises only terms, whose gradients and scores would be averaged with those
        of the losses.

    Returns:
      The players after the turn, and scalars named `player/metric`.
    """
    field = context.game.field or gradient_field
    grads, losses = field(turn, context)
    after = advance(context.game, context.players, grads)
    for name in turn.players:
        after[name] = after[name]._replace(
            model_state=losses[name].model_state, objective_state=dict(losses[name].objective_state)
        )
    metrics = {
        f"{name}/{metric}": value for name in turn.players for metric, value in losses[name].metrics.items()
    }
    if diagnostics and not turn.terms:
        played = PlayedTurn(turn, context, after, grads, losses)
        for diagnostic in diagnostics:
            metrics |= at_highest_precision(diagnostic)(played)
    return after, metrics
