"""The categorical game of Springenberg (2016): a classifier that is certain about data and uncertain about samples.

    L_D = -H_X[p(y | D)] + E_x[H[p(y | x, D)]] - E_z[H[p(y | G(z), D)]]  (+ lambda E_{x,y}[CE])   (7), (9)
    L_G = -H_G[p(y | D)] + E_z[H[p(y | G(z), D)]]                                                (8)

H_X and H_G are the entropies of the mean class distribution over data and over samples: all classes are to be used
equally. The losses are of the critic's head `classes`, K logits; its score is minus the entropy of an example.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._term import add_terms
from gan_jax.objectives.semi_supervised import supervised
from gan_jax.outputs import head
from gan_jax.types import Array

HEAD = "classes"


def entropy(logits: Array) -> Array:
    """H[p(y | x)] of logits `[B, K]`, in nats: `[B]`.

    >>> print(entropy(jnp.zeros((1, 4))))  # log 4
    [1.3862944]
    """
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def marginal_entropy(logits: Array) -> Array:
    """H[mean_x p(y | x)] of logits `[B, K]`: a scalar."""
    log_p = jax.nn.log_softmax(logits)
    return entropy(jax.nn.logsumexp(log_p, axis=0, keepdims=True) - jnp.log(logits.shape[0]))[0]


def critic_loss(real: Array, fake: Array) -> Array:
    """-H_X + E H(real) - E H(fake), of logits `[B, K]`: a scalar."""
    return -marginal_entropy(real) + jnp.mean(entropy(real)) - jnp.mean(entropy(fake))


def generator_loss(real: Array, fake: Array) -> Array:
    """-H_G + E H(fake), of logits `[B, K]`: a scalar."""
    return -marginal_entropy(fake) + jnp.mean(entropy(fake))


def _classes(out: Mapping[str, Array]) -> Array:
    return head(out, HEAD)


def cat_gan(
    prior: Prior,
    *,
    weight: float = 0.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The categorical objective, unsupervised; with a `weight`, semi-supervised.

    Args:
      prior: draws the latent z.
      weight: lambda of the cross-entropy on the batch's `labelled: {x, y}`; 0 leaves it out.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Springenberg, Unsupervised and Semi-supervised Learning with Categorical Generative Adversarial Networks,
      2016, equations (7) to (9) (arXiv:1511.06390).
    """
    check_number("cat_gan", "weight", weight, least=0)
    base = two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        read=_classes,
        realness=lambda real, fake: (-entropy(real), -entropy(fake)),
        on_features=True,
    )
    return add_terms(base, supervised(weight)) if weight else base
