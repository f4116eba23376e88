"""The metrics that the alarms read: a few scalars at each log, on by default since they cost nothing in between."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.diagnostics.norms import tree_norm
from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.diagnostics.scores import saturation, scoring_players, wide_scores
from gan_jax.field import gradient_field
from gan_jax.functional.batch import flatten
from gan_jax.functional.precision import at_least_float32
from gan_jax.game import PlayedTurn
from gan_jax.network import parameter_count
from gan_jax.schedule import Turn
from gan_jax.types import Array, Metrics, Tree

FEWEST_WEIGHTS = 100
"""With fewer parameters than this the fraction at the largest magnitude is meaningless."""


def health(played: PlayedTurn) -> Metrics:
    """A diagnostic of the metrics that distinguish failing training from healthy training.

    Returns:
      `player/gradient_norm` of every player; for those that score real and fake, `critic/score_real_variance`,
      `critic/score_fake_variance`, `critic/saturation` (logit objectives), `critic/relative_spread` and
      `critic/clipped_share`.
    """
    metrics: Metrics = {f"{name}/gradient_norm": tree_norm(grads) for name, grads in played.grads.items()}
    for name, real, fake in scoring_players(played):
        scores = wide_scores(real), wide_scores(fake)
        metrics[f"{name}/score_real_variance"] = jnp.var(scores[0])
        metrics[f"{name}/score_fake_variance"] = jnp.var(scores[1])
        if played.context.game.objective.logits:
            metrics[f"{name}/saturation"] = saturation(*scores)
        metrics[f"{name}/relative_spread"] = relative_spread(real.x, fake.x)
        if parameter_count(played.after[name].params) >= FEWEST_WEIGHTS:
            metrics[f"{name}/clipped_share"] = clipped_share(played.after[name].params)
    return metrics


def health_of_state(context: ProbeContext) -> Metrics:
    """A probe that evaluates `health` for all players at once.

    In every turn it would take a fifth of the time of networks with a hundred thousand parameters; at a log it
    costs one extra turn.
    """
    turn = Turn(tuple(context.game.players))
    grads, losses = (context.game.field or gradient_field)(turn, context)
    return health(PlayedTurn(turn, context, context.players, grads, losses))


def spread(x: Array) -> Array:
    """The root mean squared distance between two random examples of `[B, ...]`, drawn with replacement.

    It is computed as the root of twice the trace of their covariance, without forming pairs.

    >>> float(spread(jnp.array([[0.0, 0.0], [3.0, 4.0]])))  # half of the pairs are 5 apart
    3.5355...
    """
    x = at_least_float32(flatten(x))
    return jnp.sqrt(2 * jnp.mean(jnp.sum(jnp.square(x - jnp.mean(x, axis=0)), axis=1)))


def relative_spread(real: Array, fake: Array) -> Array:
    """The samples' spread over the real examples': near 0 if all samples are equal; 1 if the real ones are."""
    real_spread = spread(real)
    return jnp.where(real_spread > 0, spread(fake) / jnp.where(real_spread > 0, real_spread, 1.0), 1.0)


def clipped_share(params: Tree) -> Array:
    """The fraction of parameters whose magnitude is within .1 % of the largest, in [0, 1].

    Under weight clipping to [-c, c] that is the fraction on the bound for any c; otherwise it is close to 0.

    >>> float(clipped_share({"w": jnp.array([0.01, -0.01, 0.002, 0.01])}))
    0.75
    """
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(params)]
    largest = jnp.max(jnp.stack([jnp.max(size) for size in sizes]))
    at_bound = sum(jnp.sum(size >= 0.999 * largest) for size in sizes)
    return jnp.where(largest > 0, at_bound / parameter_count(params), 0.0)
