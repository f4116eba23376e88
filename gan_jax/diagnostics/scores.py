"""Diagnostics of a critic's scores: histograms, accuracy, divergence estimates, and gradients by its input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.functional.batch import over_batch
from gan_jax.functional.penalties import input_gradient, safe_norm
from gan_jax.functional.precision import at_least_float32
from gan_jax.game import CriticRole, Diagnostic, GeneratorRole, PlayedTurn, TurnContext
from gan_jax.outputs import CriticView
from gan_jax.types import Array, Metrics

SATURATED = 0.01
"""A probability nearer than this to 0 or 1 counts as saturated."""
SCORE_EDGES = np.sinh(np.linspace(-1, 1, 65) * math.asinh(1e6)).astype(np.float32) * np.float32(1e-3)
"""64 bins from -1000 to 1000, equally wide near 0 (about .0005), five per decade beyond, so that the same scale
serves the scores of every objective."""
PROBABILITY_EDGES = np.linspace(0, 1, 21, dtype=np.float32)


def scoring_players(played: PlayedTurn) -> Iterator[tuple[str, CriticView, CriticView]]:
    """Yields `(name, view of real, view of fake)` for the players of the turn that score real and fake examples."""
    for name in played.turn.players:
        outputs = played.losses[name].outputs
        generates = isinstance(played.context.game.players[name].role, GeneratorRole)
        if outputs.real is not None and outputs.fake is not None and not generates:
            yield name, outputs.real, outputs.fake


def wide_scores(view: CriticView) -> Array:
    """A view's scores `[B]`, in float32 or wider."""
    return at_least_float32(view.score).reshape(-1)


def score_diagnostic(statistics: Callable[[Array, Array, bool], Metrics]) -> Diagnostic:
    """Makes a diagnostic of every critic of the turn from `(real [B], fake [B], are scores logits) -> metrics`."""

    @functools.wraps(statistics)
    def diagnostic(played: PlayedTurn) -> Metrics:
        logits = played.context.game.objective.logits
        return {
            f"{name}/{metric}": value
            for name, real, fake in scoring_players(played)
            for metric, value in statistics(wide_scores(real), wide_scores(fake), logits).items()
        }

    return diagnostic


@score_diagnostic
def scores(real: Array, fake: Array, logits: bool) -> Metrics:
    """A diagnostic of a critic's scores and, for logit objectives, of its probabilities D = sigmoid(score).

    Returns:
      `critic/score_real_mean`, `score_fake_mean`, `score_real_variance`, `score_fake_variance` (Var D(G(z)));
      `critic/ranking`, the fraction of pairs in which the real example has the higher score, 1/2 if the critic
      cannot distinguish them. If the objective's scores are logits, also `probability_real_mean`,
      `probability_fake_mean`, `probability_fake_variance`, `accuracy`, `saturation` and `jsd_estimate`.
    """
    return moments(real, fake) | (logit_statistics(real, fake) if logits else {})


def moments(real: Array, fake: Array) -> Metrics:
    """Means and variances of scores `[B]`, and the fraction of correctly ranked pairs; ties count 1/2."""
    pairs = min(real.shape[0], fake.shape[0])
    above = jnp.sign(real[:pairs] - fake[:pairs])
    return {
        "score_real_mean": jnp.mean(real),
        "score_fake_mean": jnp.mean(fake),
        "score_real_variance": jnp.var(real),
        "score_fake_variance": jnp.var(fake),
        "ranking": (1 + jnp.mean(above)) / 2,
    }


def logit_statistics(real: Array, fake: Array) -> Metrics:
    """Statistics of scores `[B]` that are log-odds of being real, D = sigmoid(score).

    Returns:
      The means of D and its variance on samples; `accuracy` at the threshold D = 1/2, with equal weight for real
      and fake, where ties count 1/2; `saturation`, the fraction of examples with D within .01 of 0 or 1;
      `jsd_estimate`.
    """
    d_real, d_fake = jax.nn.sigmoid(real), jax.nn.sigmoid(fake)
    return {
        "probability_real_mean": jnp.mean(d_real),
        "probability_fake_mean": jnp.mean(d_fake),
        "probability_fake_variance": jnp.var(d_fake),
        "accuracy": (2 + jnp.mean(jnp.sign(real)) - jnp.mean(jnp.sign(fake))) / 4,
        "saturation": saturation(real, fake),
        "jsd_estimate": jsd_estimate(real, fake),
    }


def saturation(real: Array, fake: Array) -> Array:
    """The fraction with D = sigmoid(score) within `SATURATED` of 0 or 1; real and fake have equal weight."""
    bound = math.log(1 / SATURATED - 1)
    return (jnp.mean(jnp.abs(real) > bound) + jnp.mean(jnp.abs(fake) > bound)) / 2


def jsd_estimate(real: Array, fake: Array) -> Array:
    """L / 2 + log 2 with L = E log D(x) + E log(1 - D(G(z))): at most the Jensen-Shannon divergence, in nats.

    It is a lower bound in expectation, with equality at the optimal critic; its maximum is log 2.

    >>> float(jsd_estimate(jnp.zeros(3), jnp.zeros(3)))
    0.0

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014, theorem 1 (arXiv:1406.2661); Arjovsky and Bottou,
      Towards Principled Methods for Training Generative Adversarial Networks, 2017, section 2 (arXiv:1701.04862).
    """
    value = jnp.mean(jax.nn.log_sigmoid(real)) + jnp.mean(jax.nn.log_sigmoid(-fake))
    return value / 2 + math.log(2)


@score_diagnostic
def wasserstein(real: Array, fake: Array, logits: bool) -> Metrics:
    """A diagnostic `critic/wasserstein_estimate`, E f(x) - E f(G(z)).

    It is at most K W1 in expectation if f is K-Lipschitz. With weight clipping K is unknown, and only the trend is
    meaningful (Arjovsky et al., 2017, section 4).
    """
    return {"wasserstein_estimate": jnp.mean(real) - jnp.mean(fake)}


@score_diagnostic
def histograms(real: Array, fake: Array, logits: bool) -> Metrics:
    """A diagnostic `critic/score_real_histogram`, `score_fake_histogram`; for logits also `probability_...`."""
    metrics: Metrics = {}
    for kind, values in (("real", real), ("fake", fake)):
        metrics[f"score_{kind}_histogram"] = histogram(values, SCORE_EDGES)
        if logits:
            metrics[f"probability_{kind}_histogram"] = histogram(jax.nn.sigmoid(values), PROBABILITY_EDGES)
    return metrics


def histogram(values: Array, edges: np.ndarray) -> Array:
    """The fraction of values in each bin, stacked with the edges, so that means over rounds are histograms too.

    Args:
      values: `[B]`.
      edges: `[K + 1]`, ascending; values outside count in the outermost bins.

    Returns:
      `[2, K + 1]`: the edges, and for each the fraction of values between it and the edge before; the first is 0.

    >>> print(histogram(jnp.array([-9.0, 0.1, 0.2, 0.7]), np.array([0.0, 0.5, 1.0])))
    [[0.   0.5  1.  ]
     [0.   0.75 0.25]]
    """
    place = jnp.sum(values[:, None] >= edges[1:-1], axis=1)
    shares = jnp.mean(jax.nn.one_hot(place, len(edges) - 1), axis=0)
    return jnp.stack(
        [jnp.asarray(edges, shares.dtype), jnp.concatenate([jnp.zeros(1, shares.dtype), shares])]
    )


def input_gradients(played: PlayedTurn) -> Metrics:
    """A diagnostic of ||grad_x D(x)|| at real, fake and interpolated examples, for the critic in evaluation mode.

    Interpolates are e x + (1 - e) x_fake with e spread evenly over (0, 1). The parameters are those before the
    step, the conditions those of the real examples. It costs about as much as a gradient penalty at three points.

    Returns:
      `critic/input_gradient_real`, `_fake`, `_interpolates`: means of the norm for the score, and
      `critic/input_gradient_interpolates_max`. For logit objectives also `critic/probability_gradient_...` for
      D = sigmoid(score), whose gradient vanishes where the critic is certain even if that of the score does not.
    """
    metrics: Metrics = {}
    game = played.context.game
    for name, real, fake in scoring_players(played):
        if not isinstance(game.players[name].role, CriticRole) or "score" not in real.outputs:
            continue  # A critic with features only (MMD-GAN) has no score to differentiate.
        for kind, x in _points(real.x, fake.x).items():
            norm, score = _slope(played.context, name, x, real.inputs[1:])
            metrics[f"{name}/input_gradient_{kind}"] = jnp.mean(norm)
            if kind == "interpolates":
                metrics[f"{name}/input_gradient_{kind}_max"] = jnp.max(norm)
            if game.objective.logits:
                # grad sigmoid(s) = sigmoid(s) (1 - sigmoid(s)) grad s.
                steepness = jax.nn.sigmoid(score) * jax.nn.sigmoid(-score)
                metrics[f"{name}/probability_gradient_{kind}"] = jnp.mean(steepness * norm)
    return metrics


def _points(real: Array, fake: Array) -> dict[str, Array]:
    real, fake = (jax.lax.stop_gradient(x) for x in (real, fake))
    number = real.shape[0]
    e = over_batch((jnp.arange(number, dtype=real.dtype) + 0.5) / number)
    e = e.reshape(-1, *(1,) * (real.ndim - 1))
    return {"real": real, "fake": fake, "interpolates": e * real + (1 - e) * fake}


def _slope(context: TurnContext, name: str, x: Array, conditions: tuple[Array, ...]) -> tuple[Array, Array]:
    """||grad_x score|| `[B]` and the score `[B]`."""
    player = context.players[name]

    def score(x: Array) -> Array:
        out, _ = context.game.players[name].network.apply(
            player.params, player.model_state, x, *conditions, train=False, key=None
        )
        return at_least_float32(out["score"] if isinstance(out, Mapping) else out)

    return safe_norm(at_least_float32(input_gradient(score, x))), score(x)
