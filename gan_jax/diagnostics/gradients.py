"""Norms of the gradients and of the updates of a turn."""

from __future__ import annotations

from gan_jax.diagnostics.norms import difference, layers, ratio, tree_norm
from gan_jax.game import PlayedTurn
from gan_jax.types import Metrics


def gradients(played: PlayedTurn) -> Metrics:
    """A diagnostic of the gradient and the update of every player of the turn, over all its parameters.

    Returns:
      `player/gradient_norm`, the norm of the gradient that was passed to the optimiser (after the field's
      modifications), and `player/update_ratio`, the norm of the update over that of the parameters before it: about
      1e-3 for a suitable learning rate.
    """
    metrics: Metrics = {}
    for name in played.turn.players:
        old, new = played.context.players[name].params, played.after[name].params
        metrics[f"{name}/gradient_norm"] = tree_norm(played.grads[name])
        metrics[f"{name}/update_ratio"] = ratio(tree_norm(difference(new, old)), tree_norm(old))
    return metrics


def layer_gradients(played: PlayedTurn) -> Metrics:
    """A diagnostic like `gradients` for each layer: `player/gradient_norm/layer`, `player/update_ratio/layer`."""
    metrics: Metrics = {}
    for name in played.turn.players:
        old = layers(played.context.players[name].params)
        step = layers(difference(played.after[name].params, played.context.players[name].params))
        for layer, grad in layers(played.grads[name]).items():
            metrics[f"{name}/gradient_norm/{layer}"] = tree_norm(grad)
            metrics[f"{name}/update_ratio/{layer}"] = ratio(tree_norm(step[layer]), tree_norm(old[layer]))
    return metrics
