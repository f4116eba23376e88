"""The relativistic games of Jolicoeur-Martineau (2018): is real data more realistic than fake data?

    RSGAN:   L_D = -E[log sigmoid(C(x_r) - C(x_f))],  L_G = -E[log sigmoid(C(x_f) - C(x_r))]
    RaSGAN:  L_D = -E[log sigmoid(C(x_r) - E C(x_f))] - E[log(1 - sigmoid(C(x_f) - E C(x_r)))]

and L_G of the average form with real and fake exchanged. C is the critic's score.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array, average: bool = True) -> Array:
    """softplus(-(C(x_r) - C(x_f))), or its average form: `[B]`.

    >>> print(critic_loss(jnp.zeros(1), jnp.zeros(1), average=False))  # log 2
    [0.6931472]
    """
    if not average:
        return jax.nn.softplus(fake - real)
    return jax.nn.softplus(jnp.mean(fake) - real) + jax.nn.softplus(fake - jnp.mean(real))


def generator_loss(real: Array, fake: Array, average: bool = True) -> Array:
    """The critic's loss with real and fake exchanged: the generator's gradient has both terms. `[B]`."""
    return critic_loss(fake, real, average)


def relativistic(
    prior: Prior,
    *,
    average: bool = True,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The relativistic average (RaSGAN) or, without `average`, standard (RSGAN) objective.

    Args:
      prior: draws the latent z.
      average: compare with the mean score of the other kind rather than with the paired example's.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Jolicoeur-Martineau, The relativistic discriminator: a key element missing from standard GAN, 2018,
      sections 4.1 and 4.2 (arXiv:1807.00734).
    """
    return two_player(
        critic=functools.partial(critic_loss, average=average),
        generator=functools.partial(generator_loss, average=average),
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
