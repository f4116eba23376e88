"""One turn: gradients from the field, through the optimisers, into the players."""

from __future__ import annotations

from collections.abc import Sequence

from gan_jax.field import advance, gradient_field
from gan_jax.game import Game, PlayerState, Turn
from gan_jax.types import Batch, Diagnostic, Metrics, Moment, Players


def apply_turn(
    game: Game,
    turn: Turn,
    players: Players,
    batch: Batch,
    moment: Moment,
    diagnostics: Sequence[Diagnostic] = (),
) -> tuple[dict[str, PlayerState], Metrics]:
    """Moves the players of `turn` once, all from the same point; the others stay as they are.

    Args:
      game: the game.
      turn: who moves.
      players: all players' states.
      batch: the turn's batch, leaves `[B, ...]`.
      moment: the round and the turn's key.
      diagnostics: read before, after, gradients and Aux.

    Returns:
      The players after the turn, and scalars named `player/metric`.
    """
    field = game.field or gradient_field
    grads, aux = field(game, turn, players, batch, moment)
    after = advance(game, players, grads)
    for name in turn.players:
        after[name] = after[name]._replace(
            model_state=aux[name].model_state, objective_state=dict(aux[name].objective_state)
        )
    metrics = {
        f"{name}/{metric}": value for name in turn.players for metric, value in aux[name].metrics.items()
    }
    for diagnostic in diagnostics:
        metrics |= diagnostic(game, turn, players, after, grads, aux)
    return after, metrics
