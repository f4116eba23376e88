"""How large the gradients of a turn are, and how far its players moved."""

from __future__ import annotations

from collections.abc import Mapping

from gan_jax.diagnostics.norms import difference, layers, ratio, tree_norm
from gan_jax.game import Game, Turn
from gan_jax.types import Aux, Metrics, Players, Tree


def gradients(
    game: Game,
    turn: Turn,
    before: Players,
    after: Players,
    grads: Mapping[str, Tree],
    aux: Mapping[str, Aux],
) -> Metrics:
    """Of every player of the turn, in all its parameters together.

    Returns:
      `player/gradient_norm`, the norm of the gradient that the optimiser was given (by the field, so modified
      where that is), and `player/update_ratio`, the length of the step over that of the parameters before it:
      about 1e-3 where the learning rate suits.
    """
    metrics: Metrics = {}
    for name in turn.players:
        old, new = before[name].params, after[name].params
        metrics[f"{name}/gradient_norm"] = tree_norm(grads[name])
        metrics[f"{name}/update_ratio"] = ratio(tree_norm(difference(new, old)), tree_norm(old))
    return metrics


def layer_gradients(
    game: Game,
    turn: Turn,
    before: Players,
    after: Players,
    grads: Mapping[str, Tree],
    aux: Mapping[str, Aux],
) -> Metrics:
    """The same layer by layer: `player/gradient_norm/layer` and `player/update_ratio/layer`."""
    metrics: Metrics = {}
    for name in turn.players:
        old = layers(before[name].params)
        step = layers(difference(after[name].params, before[name].params))
        for layer, grad in layers(grads[name]).items():
            metrics[f"{name}/gradient_norm/{layer}"] = tree_norm(grad)
            metrics[f"{name}/update_ratio/{layer}"] = ratio(tree_norm(step[layer]), tree_norm(old[layer]))
    return metrics
