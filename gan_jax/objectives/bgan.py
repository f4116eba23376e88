"""The boundary-seeking game of Hjelm et al. (2018), for continuous data.

The critic is that of the minimax game. The generator seeks its decision boundary, where D = 1/2:

    L_G = 1/2 E_z[(log D(G(z)) - log(1 - D(G(z))))^2] = 1/2 E_z[score^2]

For discrete data the paper weighs a policy gradient with w = D / (1 - D) = exp(score); see `importance_weights`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import gan
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array

critic_loss = gan.critic_loss


def generator_loss(real: Array, fake: Array) -> Array:
    """(log D - log(1 - D))^2 / 2: `[B]`.

    >>> print(generator_loss(jnp.zeros(1), jnp.array([3.0])))
    [4.5]
    """
    return jnp.square(fake) / 2


def importance_weights(scores: Array) -> Array:
    """w~_m = exp(score_m) / sum_m' exp(score_m'), over the last axis: the M samples of one z.

    >>> print(importance_weights(jnp.zeros(4)))
    [0.25 0.25 0.25 0.25]
    """
    return jax.nn.softmax(scores, axis=-1)


def discrete_generator_loss(scores: Array, log_prob: Array) -> Array:
    """-sum_m w~_m log g(x_m | z), the policy gradient's surrogate, of scores and log probabilities `[B, M]`: `[B]`.

    The weights are constants of the generator's step (the paper's Algorithm 1).
    """
    return -jnp.sum(jax.lax.stop_gradient(importance_weights(scores)) * log_prob, axis=-1)


def bgan(
    prior: Prior,
    *,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The boundary-seeking objective.

    Args:
      prior: draws the latent z.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Hjelm et al., Boundary-Seeking Generative Adversarial Networks, 2018, section 3 (arXiv:1702.08431).
    """
    return two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        logits=True,
    )
