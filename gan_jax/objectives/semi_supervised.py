"""Semi-supervised learning with K + 1 classes, of Salimans et al. (2016).

    L_supervised = -E_{x,y}[log p(y | x, y <= K)]
    L_unsupervised = -1/2 E_x[log D(x)] - 1/2 E_z[log(1 - D(G(z)))],   D(x) = Z(x) / (Z(x) + 1),   Z = sum_k exp l_k

The critic is a classifier of K real classes (head `classes`, logits l `[B, K]`); the generated class's logit is 0,
so the score, the log-odds of being real, is log Z = logsumexp(l). The batch holds labelled examples next to the
unlabelled `x`, as `labelled: {x, y}`, in any number. The generator matches the critic's features (head `features`),
or minimises -log D.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import non_saturating
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._forward import judge, transform_inputs
from gan_jax.objectives._term import Outcome, Term, TermContext, add_terms
from gan_jax.objectives._terms import feature_matching
from gan_jax.outputs import head
from gan_jax.types import Array

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
    """L_supervised on the batch's labelled examples; logs their error rate and updates the critic's model state."""

    def value(c: TermContext) -> Outcome:
        if "labelled" not in c.batch:
            raise ValueError(
                f"The term 'supervised' needs labelled examples in the batch, labelled={{'x': ..., 'y': ...}}; "
                f"this batch has {sorted(c.batch)}."
            )
        x, y = c.batch["labelled"]["x"], c.batch["labelled"]["y"]
        inputs = transform_inputs(c, (x,), "labelled")
        outputs, model_state = judge(c, inputs, c.model_state, "labelled")
        logits = head(outputs, "classes")
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return Outcome(
            loss, metrics={"error": jnp.mean(jnp.argmax(logits, axis=-1) != y)}, model_state=model_state
        )

    return Term(
        name="supervised",
        player="critic",
        value=value,
        weight=weight,
        single_examples=True,
    )


def semi_supervised(
    prior: Prior,
    *,
    generator: str = "feature_matching",
    weight: float = 1.0,
    smoothing: float = 0.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The K + 1 classes objective.

    Args:
      prior: draws the latent z; U[0, 1]^100 in the authors' MNIST experiments.
      generator: the generator's loss: `feature_matching` (better classifiers) or `non_saturating` (better samples).
      weight: the weight of the supervised loss.
      smoothing: one-sided label smoothing of the unsupervised loss.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if there is no such generator loss.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, sections 3.1 and 5 (arXiv:1606.03498).
    """
    check_number("semi_supervised", "weight", weight, least=0)
    check_number("semi_supervised", "smoothing", smoothing, least=0, below=1)
    if generator not in GENERATORS:
        raise ValueError(f"The generator's loss is one of {list(GENERATORS)}, got {generator!r}.")
    matching = generator == "feature_matching"
    base = two_player(
        critic=lambda real, fake: critic_loss(real, fake, smoothing),
        generator=(lambda real, fake: jnp.zeros_like(fake)) if matching else generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        read=log_z,
    )
    return add_terms(base, supervised(weight), *([feature_matching()] if matching else []))
