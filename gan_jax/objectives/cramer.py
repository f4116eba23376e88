"""The Cramer game of Bellemare et al. (2017): the energy distance between the critic's features.

    L_G = 2 E||h(X) - h(Y)|| - E||h(Y) - h(Y')||   (- E||h(X) - h(X')||, constant in the generator)
    f(x) = E||h(x) - h(Y')|| - ||h(x)||,   L_D = -(E f(X) - E f(Y)) + lambda E (||grad f(x_hat)|| - 1)^2

X real, Y and Y' independent fake samples (all pairs of the batch); Algorithm 1. The surrogate f replaces a second
real sample by the origin, so that one real sample is enough; with `surrogate=False` the critic maximises the energy
distance itself. The losses are of the critic's head `features` (its score, where there is none).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gan_jax.functional.kernels import distances
from gan_jax.functional.options import check_number
from gan_jax.functional.penalties import safe_norm
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._forward import features
from gan_jax.objectives._penalties import feature_penalty
from gan_jax.objectives._term import add_terms
from gan_jax.types import Array

PENALTY = 10.0
HEAD = "features"


def critic_loss(real: Array, fake: Array, surrogate: bool = True) -> Array:
    """-(E f(X) - E f(Y)), or minus the energy distance, of features `[B, D]`: a scalar."""
    if not surrogate:
        return -energy_distance(real, fake)
    n = fake.shape[0]
    # A sample's distance to itself does not count: the mean over others is n / (n - 1) times that over all.
    towards_fake = jnp.mean(distances(real, fake)) - jnp.sum(distances(fake, fake)) / (n * (n - 1))
    return -(towards_fake - jnp.mean(safe_norm(real)) + jnp.mean(safe_norm(fake)))


def generator_loss(real: Array, fake: Array) -> Array:
    """The energy distance of features `[B, D]`: a scalar."""
    return energy_distance(real, fake)


def energy_distance(x: Array, y: Array) -> Array:
    """2 E||x - y|| - E||x - x'|| - E||y - y'||, over pairs of different points (unbiased): a scalar.

    >>> print(energy_distance(jnp.array([[0.0], [2.0]]), jnp.array([[3.0], [5.0]])))  # 2 * 3 - 2 - 2
    2.0
    """
    n, m = x.shape[0], y.shape[0]
    within = jnp.sum(distances(x, x)) / (n * (n - 1)) + jnp.sum(distances(y, y)) / (m * (m - 1))
    return 2 * jnp.mean(distances(x, y)) - within


def surrogate_critic(x: Array, fake: Array) -> Array:
    """f at features x `[n, D]`, from features of fake samples `[B, D]`: `[n]`."""
    return jnp.mean(distances(x, fake), axis=1) - safe_norm(x)


def cramer(
    prior: Prior,
    *,
    penalty: float = PENALTY,
    surrogate: bool = True,
    every: int = 1,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The Cramer objective.

    Args:
      prior: draws the latent z.
      penalty: lambda; 0 leaves the penalty out.
      surrogate: the paper's surrogate critic; the energy distance itself otherwise.
      every: compute the penalty once in `every` rounds, multiplied by `every`.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Bellemare et al., The Cramer Distance as a Solution to Biased Wasserstein Gradients, 2017, Algorithm 1
      (arXiv:1705.10743); Gretton, Notes on the Cramer GAN, 2017, on what the surrogate loses.
    """
    check_number("cramer", "penalty", penalty, least=0)

    def realness(real: Array, fake: Array) -> tuple[Array, Array]:
        reference = jax.lax.stop_gradient(fake)
        return surrogate_critic(real, reference), surrogate_critic(fake, reference)

    base = two_player(
        critic=functools.partial(critic_loss, surrogate=surrogate),
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        read=features,
        realness=realness,
        on_features=True,
    )
    if not penalty:
        return base
    term = feature_penalty(
        "surrogate_penalty", lambda x, real, fake: surrogate_critic(x, fake), penalty, every=every
    )
    return add_terms(base, term)
