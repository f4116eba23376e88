"""The boundary equilibrium game of Berthelot et al. (2017).

    L_D = L(x) - k_t L(G(z)),   L_G = L(G(z)),   L(v) = |v - D(v)|^eta
    k_{t+1} = clip(k_t + lambda_k (gamma L(x) - L(G(z))), 0, 1),   k_0 = 0                       (section 3.4)

The critic is an autoencoder (`autoencoder_critic`), its score -L; k is kept in the critic's objective state. The
convergence measure M = L(x) + |gamma L(x) - L(G(z))| is logged as `critic/balance/convergence`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._term import Outcome, Term, TermContext, add_terms
from gan_jax.types import Array


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


def began(
    prior: Prior,
    *,
    gamma: float = 0.5,
    rate: float = 0.001,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The boundary equilibrium objective.

    Args:
      prior: draws the latent z; the paper's is uniform in [-1, 1].
      gamma: the diversity ratio L(G(z)) / L(x) at equilibrium, in [0, 1].
      rate: lambda_k, the step size of k.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Berthelot et al., BEGAN: Boundary Equilibrium Generative Adversarial Networks, 2017, section 3.4
      (arXiv:1703.10717).
    """
    check_number("began", "gamma", gamma, least=0)
    check_number("began", "rate", rate, least=0)

    def balance(c: TermContext) -> Outcome:
        k, real, fake = c.state, c.real.score, c.fake.score
        new_k = jax.lax.stop_gradient(next_k(k, real, fake, gamma, rate))
        convergence = -jnp.mean(real) + jnp.abs(gamma * jnp.mean(real) - jnp.mean(fake))
        # L_D = L(x) + this term: -k L(G(z)).
        return Outcome(k * fake, new_k, {"k": k, "convergence": convergence})

    base = two_player(
        critic=lambda real, fake: critic_loss(real, fake, k=0.0),
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
    term = Term(name="balance", player="critic", value=balance, initial_state=lambda params: jnp.zeros(()))
    return add_terms(base, term)
