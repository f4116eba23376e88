"""The minimax game of Goodfellow et al. (2014).

    min_G max_D V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]                                  (1)

Scores are logits, D = sigmoid(score). At the optimal critic D* = p / (p + p_g), V = -log 4 + 2 JSD(p || p_g).
"""

from __future__ import annotations

import jax

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array) -> Array:
    """-log D(x) - log(1 - D(G(z))), as softplus(-real) + softplus(fake): `[B]`.

    >>> print(critic_loss(jax.numpy.zeros(1), jax.numpy.zeros(1)))  # 2 log 2
    [1.3862944]
    """
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def generator_loss(real: Array, fake: Array) -> Array:
    """log(1 - D(G(z))) = -softplus(fake), minimised: `[B]`. Its gradient vanishes where D rejects confidently."""
    return -jax.nn.softplus(fake)


def gan(
    prior: Prior,
    *,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The minimax objective.

    Args:
      prior: draws the latent z.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014, equation (1) (arXiv:1406.2661).
    """
    return two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        logits=True,
    )
