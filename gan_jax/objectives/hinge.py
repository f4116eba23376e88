"""The hinge game of Lim & Ye (2017) and Miyato et al. (2018).

    L_D = E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))],   L_G = -E_z[D(G(z))]                (16), (17)

The critic stops learning from examples that it classifies with a margin of 1; min L_D = 2 (1 - total variation).
"""

from __future__ import annotations

import jax

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array) -> Array:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))): `[B]`.

    >>> import jax.numpy as jnp
    >>> print(critic_loss(jnp.array([0.5, 2.0]), jnp.array([0.5, -2.0])))
    [2. 0.]
    """
    return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)


def generator_loss(real: Array, fake: Array) -> Array:
    """-D(G(z)): `[B]`."""
    return -fake


def hinge(
    prior: Prior,
    *,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The hinge objective.

    Args:
      prior: draws the latent z.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Lim & Ye, Geometric GAN, 2017 (arXiv:1705.02894); Miyato et al., Spectral Normalization for Generative
      Adversarial Networks, 2018, equations (16) and (17) (arXiv:1802.05957).
    """
    return two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
