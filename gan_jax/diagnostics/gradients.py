"""How large the gradients of a turn are, and how far its players moved."""

from __future__ import annotations

from gan_jax.diagnostics.norms import difference, layers, ratio, tree_norm
from gan_jax.game import PlayedTurn
from gan_jax.types import Metrics


def gradients(played: PlayedTurn) -> Metrics:
    """Of every player of the turn, in all its parameters together.

    Returns:
      `player/gradient_norm`, the norm of the gradient that the optimiser was given (by the field, so modified
      where that is), and `player/update_ratio`, the length of the step over that of the parameters before it:
      about 1e-3 where the learning rate suits.
    """
    metrics: Metrics = {}
    for name in played.turn.players:
        old, new = played.context.players[name].params, played.after[name].params
        metrics[f"{name}/gradient_norm"] = tree_norm(played.grads[name])
        metrics[f"{name}/update_ratio"] = ratio(tree_norm(difference(new, old)), tree_norm(old))
    return metrics


def layer_gradients(played: PlayedTurn) -> Metrics:
    """The same layer by layer: `player/gradient_norm/layer` and `player/update_ratio/layer`."""
    metrics: Metrics = {}
    for name in played.turn.players:
        old = layers(played.context.players[name].params)
        step = layers(difference(played.after[name].params, played.context.players[name].params))
        for layer, grad in layers(played.grads[name]).items():
            metrics[f"{name}/gradient_norm/{layer}"] = tree_norm(grad)
            metrics[f"{name}/update_ratio/{layer}"] = ratio(tree_norm(step[layer]), tree_norm(old[layer]))
    return metrics
