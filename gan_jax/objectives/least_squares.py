"""The least-squares game of Mao et al. (2017).

    min_D 1/2 E_x[(D(x) - b)^2] + 1/2 E_z[(D(G(z)) - a)^2]                                       (2)
    min_G 1/2 E_z[(D(G(z)) - c)^2]

Scores are D itself. With b - c = 1 and b - a = 2 the generator minimises the Pearson chi^2 divergence between
p + p_g and 2 p_g; the default a = 0, b = c = 1 is the paper's 0-1 coding (its equation (9)).
"""

from __future__ import annotations

import functools

import jax.numpy as jnp

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array, a: float = 0.0, b: float = 1.0) -> Array:
    """(D(x) - b)^2 / 2 + (D(G(z)) - a)^2 / 2: `[B]`.

    >>> print(critic_loss(jnp.array([3.0]), jnp.array([2.0])))  # (2^2 + 2^2) / 2
    [4.]
    """
    return (jnp.square(real - b) + jnp.square(fake - a)) / 2


def generator_loss(real: Array, fake: Array, c: float = 1.0) -> Array:
    """(D(G(z)) - c)^2 / 2: `[B]`."""
    return jnp.square(fake - c) / 2


def least_squares(
    prior: Prior,
    *,
    a: float = 0.0,
    b: float = 1.0,
    c: float = 1.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The least-squares objective.

    Args:
      prior: draws the latent z.
      a: the critic's target for fake samples.
      b: the critic's target for real examples.
      c: the generator's target for its samples.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Mao et al., Least Squares Generative Adversarial Networks, 2017, equation (2) (arXiv:1611.04076).
    """
    check_number("least_squares", "a", a)
    check_number("least_squares", "b", b)
    check_number("least_squares", "c", c)
    return two_player(
        critic=functools.partial(critic_loss, a=a, b=b),
        generator=functools.partial(generator_loss, c=c),
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
