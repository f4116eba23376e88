"""The boundary equilibrium game of Berthelot et al. (2017).

    L_D = L(x) - k_t L(G(z)),   L_G = L(G(z)),   L(v) = |v - D(v)|^eta
    k_{t+1} = clip(k_t + lambda_k (gamma L(x) - L(G(z))), 0, 1),   k_0 = 0                       (section 3.4)

The critic is an autoencoder (`autoencoder_critic`), its score -L; k is the critic's memory. The convergence
measure M = L(x) + |gamma L(x) - L(G(z))| is logged as `critic/balance/convergence`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective
from gan_jax.objectives._compose import Outcome, Term, add_terms, two_player
from gan_jax.types import Array, Aux, Batch, Moment, Players


def critic_loss(real: Array, fake: Array, k: Array | float = 1.0) -> Array:
    """L(x) - k L(G(z)), of scores -L: `[B]`.

    >>> print(critic_loss(jnp.array([-3.0]), jnp.array([-2.0]), k=0.5))
    [2.]
    """
    return -real + k * fake


def generator_loss(real: Array, fake: Array) -> Array:
    """L(G(z)), of scores -L: `[B]`."""
    return -fake


def next_k(k: Array, real: Array, fake: Array, gamma: float, rate: float) -> Array:
    """k_{t+1}, from scores -L.

    >>> k, real, fake = jnp.array(0.2), jnp.array([-3.0]), jnp.array([-1.0])
    >>> print(next_k(k, real, fake, gamma=0.5, rate=0.1))  # .2 + .1 (1.5 - 1)
    0.25
    """
    balance = gamma * jnp.mean(-real) - jnp.mean(-fake)
    return jnp.clip(k + rate * balance, 0.0, 1.0)


def began(prior: Prior, *, gamma: float = 0.5, rate: float = 0.001, **options: Any) -> Objective:
    """The boundary equilibrium objective.

    Args:
      prior: draws the latent z; the paper's is uniform in [-1, 1].
      gamma: the diversity ratio L(G(z)) / L(x) that is held.
      rate: lambda_k.
      **options: those of `two_player`.

    References:
      Berthelot et al., BEGAN: Boundary Equilibrium Generative Adversarial Networks, 2017, section 3.4
      (arXiv:1703.10717).
    """

    def balance(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        k = players["critic"].objective_state["balance"]
        real, fake = aux.scores["real"], aux.scores["fake"]
        new_k = jax.lax.stop_gradient(next_k(k, real, fake, gamma, rate))
        convergence = -jnp.mean(real) + jnp.abs(gamma * jnp.mean(real) - jnp.mean(fake))
        # L_D = L(x) + this term: -k L(G(z)).
        return Outcome(k * jnp.mean(fake), new_k, {"k": k, "convergence": convergence})

    base = two_player(
        lambda real, fake: critic_loss(real, fake, k=0.0), generator_loss, prior=prior, **options
    )
    term = Term(name="balance", player="critic", value=balance, objective_state=lambda params: jnp.zeros(()))
    return add_terms(base, term)
