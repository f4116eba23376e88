"""Semi-supervised learning with K + 1 classes, of Salimans et al. (2016).

    L_supervised = -E_{x,y}[log p(y | x, y <= K)]
    L_unsupervised = -1/2 E_x[log D(x)] - 1/2 E_z[log(1 - D(G(z)))],   D(x) = Z(x) / (Z(x) + 1),   Z = sum_k exp l_k

The critic is a classifier of K real classes (head `classes`, logits l `[B, K]`); the generated class's logit is 0,
so the score, the log-odds of being real, is log Z = logsumexp(l). Labelled examples come in the batch beside the
unlabelled `x`, `labelled: {x, y}`, as many as there are. The generator matches the critic's features (head
`features`), or plays -log D.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective
from gan_jax.objectives import non_saturating
from gan_jax.objectives._compose import Outcome, Term, add_terms, two_player
from gan_jax.objectives._look import head, judge, prepare_inputs
from gan_jax.objectives._terms import feature_matching
from gan_jax.types import Array, Aux, Batch, Moment, Players

GENERATORS = ("feature_matching", "non_saturating")

generator_loss = non_saturating.generator_loss


def critic_loss(real: Array, fake: Array, smoothing: float = 0.0) -> Array:
    """L_unsupervised of scores log Z, the real target 1 - `smoothing`: `[B]`.

    -log Z / 2 + softplus(log Z) / 2 = softplus(-log Z) / 2 on real examples, softplus(log Z) / 2 on fake ones.

    >>> print(critic_loss(jnp.zeros(1), jnp.zeros(1)))  # log 2
    [0.6931472]
    """
    return (jax.nn.softplus(-real) + smoothing * real + jax.nn.softplus(fake)) / 2


def log_z(out: Mapping[str, Array]) -> Array:
    """logsumexp of the head `classes`: `[B]`."""
    return jax.nn.logsumexp(head(out, "classes"), axis=-1)


def supervised(weight: float = 1.0) -> Term:
    """L_supervised on the batch's labelled examples, with their error; the critic's statistics see them too."""

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        if "labelled" not in batch:
            raise ValueError(
                f"The term 'supervised' needs labelled examples in the batch, labelled={{'x': ..., 'y': ...}}; "
                f"this batch has {sorted(batch)}."
            )
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        inputs = prepare_inputs(game, players, (x,), moment, "labelled")
        out, model_state = judge(game, players, inputs, aux.model_state, moment, "labelled")
        logits = head(out, "classes")
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))
        return Outcome(
            loss, metrics={"error": jnp.mean(jnp.argmax(logits, axis=-1) != y)}, model_state=model_state
        )

    return Term(
        name="supervised",
        player="critic",
        value=value,
        weight=weight,
        conflicts=frozenset({"packed"}),
        adds=frozenset({"heads"}),
    )


def semi_supervised(
    prior: Prior,
    *,
    generator: str = "feature_matching",
    weight: float = 1.0,
    smoothing: float = 0.0,
    **options: Any,
) -> Objective:
    """The K + 1 classes objective.

    Args:
      prior: draws the latent z; the authors' MNIST has U[0, 1]^100.
      generator: what it minimises: `feature_matching` (better classifiers) or `non_saturating` (better samples).
      weight: of the supervised loss.
      smoothing: one-sided label smoothing of the unsupervised loss.
      **options: those of `two_player`.

    Raises:
      ValueError: if there is no such generator loss.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, sections 3.1 and 5 (arXiv:1606.03498).
    """
    if generator not in GENERATORS:
        raise ValueError(f"The generator's loss is one of {list(GENERATORS)}, got {generator!r}.")
    matching = generator == "feature_matching"
    base = two_player(
        lambda real, fake: critic_loss(real, fake, smoothing),
        (lambda real, fake: jnp.zeros_like(fake)) if matching else generator_loss,
        prior=prior,
        **{"read": log_z, **options},
    )
    return add_terms(base, supervised(weight), *([feature_matching()] if matching else []))
