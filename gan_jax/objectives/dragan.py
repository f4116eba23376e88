"""The minimax game with a gradient penalty around the data, of Kodali et al. (2017).

    lambda E_{x, delta}[(||grad D(x + delta)|| - k)^2]                                           (section 2.4)

with lambda = 10, k = 1 and, as in the authors' code, delta = a std(x) u / 2, u ~ U[0, 1] in every coordinate and
a ~ U[0, 1] for every example. The critic must not couple its batch.
"""

from __future__ import annotations

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import gan
from gan_jax.objectives._penalties import dragan_penalty
from gan_jax.objectives._term import add_terms

critic_loss = gan.critic_loss
generator_loss = gan.generator_loss


def dragan(
    prior: Prior,
    *,
    penalty: float = 10.0,
    target: float = 1.0,
    scale: float = 0.5,
    every: int = 1,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The minimax objective with lambda = `penalty` and k = `target`.

    Args:
      prior: draws the latent z.
      penalty: lambda.
      target: the gradient norm the penalty asks for.
      scale: of the largest delta, in standard deviations of the batch.
      every: compute the penalty every so many rounds, scaled by as much.
      condition: further inputs of both networks, read off the batch.
      critic_condition: further inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Kodali et al., On Convergence and Stability of GANs, 2017, section 2.4 (arXiv:1705.07215).
    """
    check_number("dragan", "penalty", penalty, least=0)
    check_number("dragan", "target", target, least=0)
    check_number("dragan", "scale", scale, least=0)
    term = dragan_penalty(penalty, target=target, scale=scale, every=every)
    return add_terms(gan.gan(prior, condition=condition, critic_condition=critic_condition), term)
