"""The -log D game: the minimax critic, and a generator that maximises log D(G(z)).

    L_D = -E_x[log D(x)] - E_z[log(1 - D(G(z)))],   L_G = -E_z[log D(G(z))]

The fixed point is that of the minimax game, but the generator's gradient is not: at the optimal critic a step
follows KL(p_g || p) - 2 JSD (Arjovsky & Bottou, 2017, Theorem 2.5).
"""

from __future__ import annotations

import jax

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import gan
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array

critic_loss = gan.critic_loss


def generator_loss(real: Array, fake: Array) -> Array:
    """-log D(G(z)) = softplus(-fake): `[B]`.

    >>> print(generator_loss(jax.numpy.zeros(1), jax.numpy.zeros(1)))  # log 2
    [0.6931472]
    """
    return jax.nn.softplus(-fake)


def non_saturating(
    prior: Prior,
    *,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The -log D objective.

    Args:
      prior: draws the latent z.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014, section 3 (arXiv:1406.2661).
    """
    return two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        logits=True,
    )
